"""What survives: the ledger and the dead letters, in SQLite and in memory."""
