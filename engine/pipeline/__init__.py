"""Pipelines: what a TOML file says, checked and turned into a plan. No I/O beyond reading that file."""
