"""A pipeline that is right, and ways to make it wrong."""

from collections.abc import Callable
from pathlib import Path

import pytest

from engine.errors import Finding, PlanError
from engine.pipeline.parse import load_pipeline, load_settings

GOOD = """\
version = 1
name = "profiles"

[source]
type = "ndjson"
paths = ["data/*.ndjson"]
key = "profile_id"

[job]
kind = "intelligence.enrich.bulk"

[sink]
type = "ndjson"
path = "out"
"""

Judge = Callable[..., list[Finding]]


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test works in a folder of its own, so no `.env` and no config.toml of ours is seen."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def good() -> str:
    """The text of a pipeline without a fault."""
    return GOOD


@pytest.fixture
def findings(tmp_path: Path) -> Judge:
    """Judge the text of a pipeline file: what is wrong with it, in order; empty when nothing is."""

    def judge(text: str, *, env: dict[str, str] | None = None, overrides: dict[str, str] | None = None):
        (tmp_path / "p.toml").write_text(text, encoding="utf-8")
        try:
            load_pipeline("p.toml", env=env or {}, overrides=overrides)
        except PlanError as exc:
            return exc.findings
        return []

    return judge


@pytest.fixture
def settings_of(tmp_path: Path):
    """Load the text of a config.toml."""

    def load(text: str, *, env: dict[str, str] | None = None, overrides: dict[str, str] | None = None):
        (tmp_path / "config.toml").write_text(text, encoding="utf-8")
        return load_settings("config.toml", env=env or {}, overrides=overrides)

    return load
