"""Healthy collector: an OTLP collector that takes everything, as a process; prints its URL, ends with its input."""

from __future__ import annotations

import json
import sys

from engine.chaos.collector import collecting


def main() -> None:
    """Listen until standard input ends."""
    with collecting("200") as collector:
        print(json.dumps({"url": collector.url}), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
