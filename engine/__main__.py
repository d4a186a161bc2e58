"""`python -m engine`: the same command line as `engine`."""

from __future__ import annotations

from engine.cli.main import main

main()
