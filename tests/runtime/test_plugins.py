"""Plug-ins: what another distribution brings is found by its entry point, held to the same law, killed like ours."""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.components.catalog import open_sink, open_source, open_transforms
from engine.components.plugins import SINKS, SOURCES, TRANSFORMS, Opening, Pull, find, opened
from engine.errors import ConfigError, InputError
from engine.pipeline.spec import SinkSpec, SourceSpec, TransformSpec
from engine.testing import check_sink, check_source, check_transform
from tests.runtime.plugged import install
from tests.runtime.process import ROOT, engine, finish, report_of, start

ROWS = 35_000
_PIPELINE = """
version = 1
name    = "plugged"
[source]
type    = "plugin"
use     = "counting"
options = { count = 35_000 }
key     = "id"
[[transform]]
type = "plugin"
use  = "odd"
[sink]
type    = "plugin"
use     = "folder"
options = { path = "out" }
rotate  = { rows = 5_000 }
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The distribution, on our path for as long as a test runs."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(install(folder)))
    yield folder
    sys.modules.pop("acme_plugin", None)


def source(use: str, **options: Any) -> Any:
    """Open a plug-in source."""
    return open_source(SourceSpec(type="plugin", use=use, options=options, key="id"), want_values=False)


def keys(batches: Any) -> list[str]:
    """The keys of batches, in order."""
    return [key for batch in batches for key in batch.keys]


def test_a_source_is_read_and_gone_on_with_at_any_row(installed) -> None:
    """Every row once, with its bytes; a mark after any row leads to the next."""
    reading = source("counting", count=2_500)
    batches = list(reading.read({}))
    assert keys(batches) == [f"r{number}" for number in range(2_500)]
    assert [json.loads(raw)["n"] for batch in batches for raw in batch.raws] == list(range(2_500))

    last = batches[-1]
    for index in (0, 7, len(last.keys) - 1):
        mark = reading.mark(last.input, last.ends[index], last.line_after(index))
        rest = list(source("counting", count=2_500).read({last.input: mark}))
        assert keys(rest) == keys([last])[index + 1 :]
    assert not reading.can_reread


def test_what_a_source_raises_is_an_input_error(installed) -> None:
    """Rows before it are handed out where a window was full; the function is named with what it raised."""
    with pytest.raises(InputError, match="plugin broken failed: KeyError"):
        list(source("broken").read({}))


@pytest.mark.parametrize(
    ("use", "said"), [("nobody", "no plug-in of engine.sources"), ("absent", "cannot be imported")]
)
def test_a_plug_in_that_is_not_there_is_configuration(installed, use, said) -> None:
    """The names that are installed are told, or why one cannot be imported."""
    with pytest.raises(ConfigError, match=said):
        source(use)


def test_the_battery_passes_what_holds(installed, tmp_path) -> None:
    """The source, the sink and the transform of the distribution pass the checks that are shipped."""
    check_source(find(SOURCES, "counting"), options={"count": 50}, key="id")
    check_transform(opened(TRANSFORMS, "odd", {}), [{"n": number} for number in range(5)])
    out = tmp_path / "out"

    def opening() -> Any:
        return opened(
            SINKS, "folder", Opening(options={"path": str(out)}, fields={}, key="id", pipeline="p", owner="me")
        )

    def look() -> list[dict[str, Any]]:
        return [json.loads(line) for path in sorted(out.glob("*")) for line in path.read_text().splitlines()]

    check_sink(opening, [{"id": "a"}, {"id": "b"}, {"id": "c"}], look)


def test_our_own_sinks_pass_the_battery(tmp_path) -> None:
    """The battery asks nothing of others that ours do not hold."""
    out = tmp_path / "out"

    def look() -> list[dict[str, Any]]:
        return [json.loads(line) for path in sorted(out.glob("part-*")) for line in path.read_text().splitlines()]

    check_sink(
        lambda: open_sink(SinkSpec(type="ndjson", path=str(out)), {}, pipeline="p"), [{"id": "a"}, {"id": "b"}], look
    )


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (lambda pull: iter(()), "yields some row"),
        (lambda pull: iter([({"id": "a"}, 1)]), "a place is text"),
        (lambda pull: iter([([1], "1")]), "a JSON object"),
        (lambda pull: iter([(b"{", "1")]), "a JSON object"),
        (lambda pull: iter([({"no": "key"}, "1")]), "has a key"),
        (lambda pull: iter([({"id": f"r{n}"}, str(n)) for n in range(3)]), "after the place of row 0"),
    ],
)
def test_the_battery_finds_what_does_not_hold_in_a_source(rows, said) -> None:
    """Each promise that is broken is told in a sentence."""
    with pytest.raises(AssertionError, match=said):
        check_source(rows, options={}, key="id")


def test_the_battery_finds_a_sink_that_doubles(tmp_path) -> None:
    """A sink that sweeps nothing leaves rows twice, and is told so."""
    there: list[dict[str, Any]] = []

    class Part:
        rows, name, refused = 0, "p", ()

        def __init__(self) -> None:
            self.body = b""

        def append(self, chunk: bytes, rows: int) -> None:
            self.body += chunk
            self.rows += rows

        def finish(self) -> Any:
            there.extend(json.loads(line) for line in self.body.splitlines())
            return self

        def discard(self) -> None:
            self.body = b""

    class Doubling:
        def encode(self, rows: Any) -> bytes:
            return b"".join(json.dumps(row).encode() + b"\n" for row in rows)

        def begin(self, *, epoch: int, number: int) -> Part:
            part = Part()
            part.name = f"{epoch}-{number}"
            return part

        def sweep(self, keep: set[str]) -> int:
            return 0

    with pytest.raises(AssertionError, match="swept, or replaced"):
        check_sink(Doubling, [{"id": "a"}, {"id": "b"}], lambda: there)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda values: None, "answers a list"),
        (lambda values: values[1:], "one result for each"),
        (lambda values: [1 for _ in values], "a dict or None"),
        (lambda values: [{"of": len(values)} for _ in values], "alone and among others"),
    ],
)
def test_the_battery_finds_what_does_not_hold_in_a_transform(function, said) -> None:
    """A transform that breaks its promise is told how."""
    with pytest.raises(AssertionError, match=said):
        check_transform(function, [{"n": 1}, {"n": 2}])


def test_a_transform_is_opened_with_its_options(installed, tmp_path) -> None:
    """It changes batches like one of our own."""
    [step] = open_transforms([TransformSpec(type="plugin", use="odd")], base=tmp_path)
    assert step.apply([{"n": 1}, {"n": 2}]) == [{"n": 1}, None]


def test_a_source_that_does_not_heed_a_stop_is_found() -> None:
    """One that waits for the outside although nobody wants rows any more is told so."""
    is_over = threading.Event()

    def rows(pull: Pull) -> Iterator[Any]:
        if pull.stop.is_set():
            is_over.wait()
        if pull.after is None:
            yield {"id": "a"}, "1"

    with pytest.raises(AssertionError, match="yields or ends soon"):
        check_source(rows, options={}, key="id", stops_within_s=0.2)
    is_over.set()


@pytest.mark.parametrize("point", ["ledger:planned:after:2", "ledger:committed:before:2"])
def test_a_pipeline_of_plug_ins_is_killed_and_gone_on_with(tmp_path: Path, point: str) -> None:
    """Source, transform and sink of somebody else: after a kill each row lands once, and the books balance."""
    site = tmp_path / "site"
    site.mkdir()
    path = f"{ROOT}:{install(site)}"
    (tmp_path / "p.toml").write_text(_PIPELINE)
    victim = start(["run", "p.toml", "--json"], cwd=tmp_path, ENGINE_FAILPOINT=point, PYTHONPATH=path)
    finish(victim)
    assert victim.returncode == -signal.SIGKILL
    code, out, err = engine(["run", "p.toml", "--json"], cwd=tmp_path, PYTHONPATH=path)

    assert code == 0, err
    report = report_of(out)
    assert (report["read"], report["accepted"], report["filtered"], report["open"]) == (ROWS, 17_500, 17_500, 0)
    landed = [json.loads(line)["n"] for file in (tmp_path / "out").iterdir() for line in file.read_text().splitlines()]
    assert sorted(landed) == list(range(1, ROWS, 2))
