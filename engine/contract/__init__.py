"""The contract: what is said between client and platform, as data that client, emulator and tests all read."""
