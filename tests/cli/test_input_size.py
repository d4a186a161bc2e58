"""The size of the input, for the bar of the live view: of the same files as the run reads, or not known."""

import gzip
from pathlib import Path

import pytest

from engine.cli.run import _input_bytes
from engine.pipeline.parse import load_pipeline
from engine.pipeline.spec import PipelineSpec

SHIPPED = Path(__file__).parents[2] / "pipelines" / "export.toml"


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    place = tmp_path / "inputs"
    (place / "deep").mkdir(parents=True)
    (place / "a.ndjson").write_bytes(b"x" * 10)
    (place / "deep" / "b.ndjson").write_bytes(b"x" * 7)
    (place / "c.ndjson.gz").write_bytes(gzip.compress(b"{}"))
    return place


def _spec(*paths: str) -> PipelineSpec:
    told = "[" + ", ".join(f'"{path}"' for path in paths) + "]"
    return load_pipeline(str(SHIPPED), env={}, overrides={"source.paths": told})


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["*.ndjson"], 10),
        (["**/*.ndjson"], 17),
        (["*.ndjson", "a.ndjson"], 10),
        (["a.ndjson", "*.gz"], None),
        (["a.ndjson", "-"], None),
        (["nothing*"], None),
    ],
)
@pytest.mark.parametrize("is_absolute", [False, True])
def test_the_size_of_the_input_is_that_of_its_files(
    inputs: Path, monkeypatch: pytest.MonkeyPatch, patterns: list[str], expected: int | None, is_absolute: bool
) -> None:
    """Each file once, also by an absolute or a recursive pattern; nothing where bytes cannot be compared."""
    monkeypatch.chdir(inputs)
    names = [f"{inputs}/{name}" if is_absolute and name != "-" else name for name in patterns]
    assert _input_bytes(_spec(*names)) == expected
