"""Child: calls one contestant and prints what it answers, as the last line; `rounds` starts it."""

from __future__ import annotations

import json
import sys
from importlib import import_module


def main() -> None:
    """`child MODULE:FUNCTION ARGUMENTS`."""
    module, _, name = sys.argv[1].partition(":")
    answer = getattr(import_module(module), name)(**json.loads(sys.argv[2]))
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
