"""Fixtures of the components: a working directory of its own, and short ways to open things."""

import os
from pathlib import Path

import pytest

from engine.components.catalog import open_sink, open_source
from engine.pipeline.spec import SinkSpec, SourceSpec


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def source(here):
    """Open a source by format and options; paths are relative to `here`."""
    opened = []

    def opening(kind="ndjson", *paths, want_values=False, key="id", **options):
        spec = SourceSpec(type=kind, paths=paths or ("in.*",), key=key, **options)
        opened.append(open_source(spec, want_values=want_values))
        return opened[-1]

    yield opening
    for one in opened:
        one.close()


@pytest.fixture
def sink(here):
    """Open a sink in `out` by format and options."""

    def opening(kind="ndjson", fields=None, pipeline="cities", **options):
        spec = SinkSpec(type=kind, path="out", **options)
        return open_sink(spec, fields or {}, pipeline=pipeline)

    return opening


@pytest.fixture
def stdin():
    """Put a file or a pipe in the place of stdin: call with a descriptor."""
    saved = os.dup(0)

    def replace(fd):
        os.dup2(fd, 0)

    yield replace
    os.dup2(saved, 0)
    os.close(saved)
