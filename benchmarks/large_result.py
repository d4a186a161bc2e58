"""Streams one very large result through a run and prints what it took: bytes, rows, peak memory.

    python benchmarks/large_result.py [--megabytes 2000] [--memory 256MiB]

The emulator pads the rows of one job's result, so the engine downloads, decodes, matches and lands the whole of it as
one part. `of_result` is the peak as a share of the result. The emulator keeps the result in its own memory. One JSON
line.
"""

import argparse
import json
import tempfile
from pathlib import Path

from measured import rows_of, run

ROWS = 10_000


def main() -> None:
    """Run once and print."""
    parser = argparse.ArgumentParser(description="One very large result through a run.")
    parser.add_argument("--megabytes", type=int, default=2_000, help="size of the result, in MB (default: 2000)")
    parser.add_argument("--memory", default="256MiB", help="the budget (default: 256MiB)")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder) / "run"
        pad = asked.megabytes * 1_000_000 // ROWS
        report = run(here, rows_of(ROWS, 60), kind="import.bulk", memory=asked.memory, rows=ROWS, pad=pad)
        manifest = json.loads((here / "out" / "_manifest.json").read_text())
        on_disk = sum(path.stat().st_size for path in (here / "out").glob("part-*"))
    landed = sum(part["bytes"] for part in manifest["parts"])
    peak_bytes = report["peak_mib"] * 1024 * 1024
    print(
        json.dumps(
            {
                "rows": report["accepted"],
                "is_whole": report["accepted"] == ROWS and landed == on_disk,
                "result_bytes": landed,
                "parts": len(manifest["parts"]),
                "memory": asked.memory,
                "peak_mib": report["peak_mib"],
                "of_result": round(peak_bytes / landed, 4),
                "seconds": report["seconds"],
            }
        )
    )


if __name__ == "__main__":
    main()
