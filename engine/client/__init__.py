"""The typed caller of every route of the contract."""
