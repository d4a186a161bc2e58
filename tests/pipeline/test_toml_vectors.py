"""The public TOML test suite: what is invalid is one finding with a place; what is valid is placed fully."""

import io
import tarfile
import tomllib

import pytest

from engine.errors import PlanError
from engine.pipeline.locate import locate
from engine.pipeline.parse import load_pipeline


@pytest.fixture(scope="module")
def toml_files(vectors) -> dict[str, bytes]:
    """The files of the TOML 1.0.0 list, by name."""
    raw = (vectors("toml-test") / "tests.tar.gz").read_bytes()
    with tarfile.open(fileobj=io.BytesIO(raw)) as archive:
        held = {
            member.name.removeprefix("./").removeprefix("tests/"): archive.extractfile(member)
            for member in archive.getmembers()
            if member.isfile()
        }
        texts = {name: file.read() for name, file in held.items() if file}
    listed = texts["files-toml-1.0.0"].decode().split()
    return {name: texts[name] for name in listed if name.endswith(".toml")}


# Python's own parser takes these for TOML; each is a known leniency of `tomllib`, and harmless here.
LENIENT: set[str] = set()


def test_invalid_toml_is_one_finding_with_a_place(toml_files, tmp_path) -> None:
    """Every invalid file ends in one finding with line and column, never in another exception."""
    invalid = {name: raw for name, raw in toml_files.items() if name.startswith("invalid/")}
    path = tmp_path / "p.toml"
    accepted = set()
    for name, raw in invalid.items():
        path.write_bytes(raw)
        with pytest.raises(PlanError) as caught:
            load_pipeline(str(path), env={})
        first = caught.value.findings[0]
        if first.finding_code in ("config.syntax", "config.unreadable"):
            assert first.line >= 1, name
            assert first.column >= 1, name
            assert len(caught.value.findings) == 1, name
        else:
            accepted.add(name)

    assert len(invalid) > 400
    assert accepted == LENIENT


def _paths(value, at=()):
    match value:
        case dict():
            for key, member in value.items():
                yield (*at, key)
                yield from _paths(member, (*at, key))
        case list():
            for index, member in enumerate(value):
                yield (*at, index)
                yield from _paths(member, (*at, index))


def test_every_key_of_valid_toml_has_a_place(toml_files, tmp_path) -> None:
    """In every valid file, every key, table and element is found, at a line that holds its key's text."""
    valid = {name: raw for name, raw in toml_files.items() if name.startswith("valid/")}
    for name, raw in valid.items():
        text = raw.decode("utf-8-sig")
        wanted = set(_paths(tomllib.loads(text)))
        spots = locate(text)
        # A table that only a deeper header implies has no text of its own.
        implied = {path for path in wanted if any(other[: len(path)] == path for other in spots)}
        assert wanted <= set(spots) | implied, name
        lines = text.split("\n")
        for path, spot in spots.items():
            key = path[-1]
            if isinstance(key, str) and key.isalnum() and key.isascii() and path in wanted:
                assert key in lines[spot.line - 1], (name, path)

    assert len(valid) > 200


def test_valid_toml_is_never_a_syntax_error(toml_files, tmp_path) -> None:
    """Every valid file is judged as a pipeline, not refused as TOML."""
    path = tmp_path / "p.toml"
    for name, raw in toml_files.items():
        if not name.startswith("valid/"):
            continue
        path.write_bytes(raw)
        with pytest.raises(PlanError) as caught:
            load_pipeline(str(path), env={})
        codes = {found.finding_code for found in caught.value.findings}
        assert not codes & {"config.syntax", "config.unreadable"}, name
