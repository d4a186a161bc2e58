"""The first minutes: what a new user types in an empty folder, word by word, and what is there afterwards."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from engine.errors import Exit
from engine.pipeline.starting import STARTS

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Types a line into a shell in an empty folder in which `engine` is a command; answers how it ended."""
    home, folder = tmp_path / "home", tmp_path / "empty"
    (home / "bin").mkdir(parents=True)
    folder.mkdir()
    command = home / "bin" / "engine"
    command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m engine "$@"\n')
    command.chmod(0o755)
    plain = {name: text for name, text in os.environ.items() if not name.startswith(("ENGINE_", "OTEL_", "ARGUS_"))}
    env = {**plain, "PYTHONPATH": str(ROOT), "HOME": str(home), "PATH": f"{home / 'bin'}:{os.environ['PATH']}"}

    def type_in(line: str, expected: int = 0) -> str:
        answer = subprocess.run(
            ["sh", "-c", line], cwd=folder, env=env, capture_output=True, text=True, check=False,
            stdin=subprocess.DEVNULL, timeout=100,
        )  # fmt: skip
        assert answer.returncode == expected, f"{line}\n{answer.stdout}{answer.stderr}"
        return answer.stdout + answer.stderr

    type_in.folder = folder
    return type_in


def test_from_an_empty_folder(shell) -> None:
    """Init, two lines edited, check, test, run: three rows of ours land where the edit says, and again nothing new."""
    said = shell("engine init")
    assert "wrote people.toml" in said

    shell("""sed -i 's|^paths.*|paths = ["mine.csv"]|; s|"out/people"|"out/mine"|' people.toml""")
    changed = (shell.folder / "people.toml").read_text()
    assert '["mine.csv"]' in changed
    assert '"out/mine"' in changed
    shell("printf 'id,full_name,email,born\\na,Ann,,1990\\nb,Ben,b@example.org,\\nc,Cat,,\\n' > mine.csv")

    assert "people.toml: ok" in shell("engine check people.toml")
    assert "1 test passed" in shell("engine test people.toml")
    said = shell("engine run people.toml")
    assert "3 rows in = 3 accepted + 0 rejected + 0 dead-lettered + 0 filtered      balanced" in said
    landed = [json.loads(line) for line in shell("cat out/mine/part-*").splitlines()]
    assert [row["external_id"] for row in landed] == ["a", "b", "c"]
    assert "nothing new" in shell("engine run people.toml")


def test_with_a_profile_for_the_emulator(shell) -> None:
    """Settings, names and a fault script are written, and a run in which the script strikes loses no row."""
    told = json.loads(shell("engine init people --profile emulator --json"))
    assert told["files"] == ["people.toml", "people.csv", "config.toml", ".env.example", "people.faults.toml"]
    assert told["next"] == ["engine check people.toml", "engine run people.toml", "engine test people.toml"]
    shell(told["next"][0])
    script = (shell.folder / "people.faults.toml").read_text()
    line = script.splitlines()[0].partition("mischief:")[2].strip()
    said = json.loads(shell(line + " --json -q").splitlines()[-1])
    assert (said["accepted"], said["outcome"]) == (3, "done")


@pytest.mark.parametrize("profile", [profile for profile in STARTS if profile != "emulator"])
def test_a_profile_says_what_is_missing_until_it_is_filled_in(shell, profile) -> None:
    """`check` names each name of `.env.example`; with `.env` made of it and filled in, it has nothing to say."""
    told = json.loads(shell(f"engine init people --profile {profile} --json"))
    names = [line[:-1] for line in (shell.folder / ".env.example").read_text().splitlines() if line.endswith("=")]
    assert names
    said = shell("engine check people.toml", Exit.CONFIGURATION)
    assert not [name for name in names if name not in said]
    assert told["next"][0] == "cp .env.example .env"
    shell(told["next"][0])
    shell("chmod 600 .env && sed -i 's/=$/=filled-in-value/' .env")
    shell("engine check people.toml")


def test_what_serves_several_pipelines_is_kept(shell) -> None:
    """A second pipeline keeps the settings of the first; a file of its own name that is there is refused."""
    shell("engine init one --profile emulator")
    (shell.folder / "config.toml").write_text("version = 1\n")
    said = shell("engine init two --profile live")
    assert "kept  config.toml" in said
    assert (shell.folder / "config.toml").read_text() == "version = 1\n"
    shell("touch three.faults.toml")
    shell("engine init three --profile live", Exit.OUTPUT)
    assert not (shell.folder / "three.toml").exists()
