"""Commands in the README's sentences and tables: each is typed here, or it is said who types it, or why nobody does."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from engine.cli.main import VERBS
from tests.runtime.process import ROOT, engine, environment

README = (ROOT / "README.md").read_text(encoding="utf-8")
# What is typed for a command of a sentence, where its capital words need a value, and how it ends.
TYPED = {
    "engine schema --write": ("engine schema --write", 0),
    "engine --set platform.profile=live check pipelines/import.toml": (
        "engine --set platform.profile=live check pipelines/import.toml", 3,
    ),
    "engine dlq show KEY": ("engine dlq show p-2", 0),
    "engine dlq edit KEY --set FIELD=VALUE": ("engine dlq edit p-2 --set born=1912", 0),
    "engine dlq replay people.toml --all": ("engine dlq replay people.toml --all", 0),
    "engine chaos --table": ("engine chaos --table", 0),
    "engine call --list": ("engine call --list", 0),
    "engine contract routes": ("engine contract routes", 0),
    "engine --help": ("engine --help", 0),
    "engine run": ("engine run people.toml", 0),
}  # fmt: skip
# Nobody types these here.
UNTYPED = {
    "engine": "the name of the command",
    "engine …": "stands for every command",
    "uv run --no-dev engine …": "stands for every command; the first block of the README is one",
    "engine chaos": "the text reports a run of hours; tests/chaos runs it over few kills",
    'pip install -e ".[parquet,graph]"': "installs; tests/runtime/test_readme.py looks whether the extras are there",
    'pip install -e ".[bench]"': "installs; tests/runtime/test_readme.py looks whether the extras are there",
    "python -m benchmarks": "takes an hour and more; its --help is asked for below, tests/benchmarks runs its parts",
}


def words() -> set[str]:
    """Every command between backquotes, wherever it stands."""
    text = re.sub(r"^```.*?^```", "", README, flags=re.DOTALL | re.MULTILINE)
    found = re.findall(r"`((?:engine|pip|python|uv run)(?: [^`]*)?)`", text)
    return {word.replace("\\|", "|") for word in found} - {"python"}  # The name of a sink.


def is_in_the_table_of_commands(word: str) -> bool:
    """A line of that table: the example of the command's own help is what tests/cli/test_help.py types."""
    return any(line.startswith("| ") and f"`{word}`" in line for line in README.splitlines()) and (
        word.split()[1] in VERBS
    )


def test_every_command_is_accounted_for() -> None:
    """A command that is new in the README fails here until somebody types it; so does one that is gone."""
    found = {word for word in words() if not is_in_the_table_of_commands(word)}
    listed = {word for word in (*TYPED, *UNTYPED) if not is_in_the_table_of_commands(word)}
    assert found == listed


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is shipped, and the README's own pipeline after a run that left one dead letter."""
    folder = tmp_path_factory.mktemp("readme")
    shutil.copytree(ROOT / "pipelines", folder / "pipelines")
    shutil.copy(ROOT / "config.toml", folder)
    [text] = re.findall(r"`people\.toml`:\n\n```toml\n(.*?)```", README, re.DOTALL)
    (folder / "people.toml").write_text(text.replace('"csv"', '"ndjson"').replace("people.csv", "people.ndjson"))
    rows = [{"id": "p-1", "full_name": "Ada", "born": 1815}, {"id": "p-2", "full_name": "Bo", "born": "unknown"}]
    (folder / "people.ndjson").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with (folder / "people.toml").open("a") as file:
        file.write('\n[[transform]]\ntype = "cast"\nfields = { born = "int" }\n')
    assert engine(["run", "people.toml"], cwd=folder)[0] == 0
    return folder


@pytest.mark.parametrize("word", TYPED)
def test_a_command_of_a_sentence_does_what_is_said(folder: Path, word: str) -> None:
    """It ends as the sentence says, in a folder in which there is something to do for it."""
    typed, expected = TYPED[word]
    code, out, err = engine(shlex.split(typed)[1:], cwd=folder)
    assert code == expected, out + err


def test_the_live_profile_says_what_is_missing_and_where_it_looked(folder: Path) -> None:
    """As the text on going live promises."""
    _, _, err = engine(["--set", "platform.profile=live", "check", "pipelines/import.toml"], cwd=folder)
    assert "ARGUS_CLIENT_ID" in err
    assert "looked in" in err


def test_the_benchmarks_are_a_program() -> None:
    """`python -m benchmarks` is there and names its programs."""
    answer = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--help"], cwd=ROOT, env=environment(), capture_output=True, text=True,
        check=False, timeout=100,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    assert "--only" in answer.stdout
