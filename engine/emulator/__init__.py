"""The emulator: serves the contract on loopback with real tokens, real jobs and real signatures."""
