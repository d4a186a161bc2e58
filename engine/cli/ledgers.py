"""Finding ledgers for the verbs that read them, and printing their lines as a table or as JSON."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from engine.cli.invocation import Invocation
from engine.cli.output import emit
from engine.errors import NothingSuch
from engine.store.ledger import Ledger
from engine.store.reading import Glance, is_old, pipelines_in
from engine.store.shares import shares_begun


def glances(invocation: Invocation, pipeline: str | None) -> Iterator[Glance]:
    """The ledgers to look into: one pipeline's, by name or by its file, or all there are.

    Raises:
        NothingSuch: none is there.
    """
    state_dir = Path(invocation.settings().state_dir)
    if pipeline is not None:
        name = invocation.pipeline(pipeline).name if pipeline.endswith(".toml") else pipeline
        # What runs in several processes has a ledger for each.
        names = [share.named(name) for share in shares_begun(state_dir / name)] or [name]
    else:
        names = pipelines_in(state_dir)
        if not names:
            raise NothingSuch(f"there is no ledger under {state_dir}", hint="run a pipeline first: engine run FILE")
    for name in names:
        bring_up_to_date(state_dir / name)
        with Glance(state_dir / name) as glance:
            yield glance


def bring_up_to_date(directory: Path) -> None:
    """Migrate a ledger that an older engine wrote; one that is up to date is not touched, nor locked.

    Raises:
        LedgerBusy: an older engine is running on it.
    """
    if (directory / "ledger.sqlite").is_file() and is_old(directory / "ledger.sqlite"):
        Ledger(directory, directory.name).close()


def pipeline_file(directory: Path) -> str:
    """The file of a pipeline that is known by its name: where it was when it last ran.

    Raises:
        StateError: there is no ledger, or the file is not there any more.
    """
    with Glance(directory) as glance:
        path = glance.file
    if path is None or not Path(path).is_file():
        raise NothingSuch(
            f"the file of pipeline {directory.name!r} is not known"
            if path is None
            else f"{path} is not there any more",
            hint="give the pipeline's file in place of its name",
        )
    try:
        return str(Path(path).relative_to(Path.cwd()))
    except ValueError:
        return path


def table(heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print rows under their heads; numbers to the right."""
    texts = [[_cell(value) for value in row] for row in rows]
    widths = [max([len(head), *(len(row[i]) for row in texts)]) for i, head in enumerate(heads)]
    is_number = [bool(rows) and all(isinstance(row[i], int) for row in rows) for i in range(len(heads))]
    for line in [list(heads), *texts]:
        cells = (
            text.rjust(width) if number else text.ljust(width)
            for text, width, number in zip(line, widths, is_number, strict=True)
        )
        emit("  ".join(cells).rstrip())


def time_text(at_ns: int | None) -> str:
    """Wall nanoseconds as RFC 3339 in UTC; a dash for none."""
    if at_ns is None:
        return "-"
    return dt.datetime.fromtimestamp(at_ns / 1e9, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _cell(value: Any) -> str:
    return "-" if value is None else str(value)
