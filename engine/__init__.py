"""Moves records through the Argus platform's asynchronous jobs and back, exactly once."""

__version__ = "0.1.0"
