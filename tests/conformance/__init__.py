"""One suite for every route of the contract, run against the emulator or any platform that is named to it."""
