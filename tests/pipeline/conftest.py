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
            marked_in(text, exc.findings)
            return exc.findings
        return []

    return judge


def marked_in(text: str, found: list[Finding]) -> list[str]:
    """What the carets of findings stand under, in the text as it is; every finding with an extent has them there."""
    marked = []
    for one in found:
        if one.line and one.facts.get("length"):
            line, excerpt = text.split("\n")[one.line - 1].rstrip("\r"), str(one.facts["excerpt"])
            start, end = one.column - 1, one.column - 1 + int(one.facts["length"])
            assert len(excerpt) == len(line), one
            # What is missing may be just past the end.
            assert 0 <= start <= len(line), one
            assert end <= max(len(line), start + 1), one
            assert line[start:end].strip() == line[start:end] or one.finding_code == "config.syntax", one
            marked.append(line[start:end])
    return marked


@pytest.fixture
def settings_of(tmp_path: Path):
    """Load the text of a config.toml."""

    def load(text: str, *, env: dict[str, str] | None = None, overrides: dict[str, str] | None = None):
        (tmp_path / "config.toml").write_text(text, encoding="utf-8")
        return load_settings("config.toml", env=env or {}, overrides=overrides)

    return load
