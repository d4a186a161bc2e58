"""What the README shows is what happens: its files, its commands, and the row it promises."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest

from tests.runtime.process import ROOT, engine, rows_in

README = (ROOT / "README.md").read_text(encoding="utf-8")
# Every block of the README by its first words, and who executes it, or why nobody does.
BLOCKS = {
    "pip install uv && uv run --no-dev engine run pipelines/": "test_the_first_command_moves_what_is_shipped",
    "pip install uv && uv run pytest": "whoever runs this test",
    "import  ·  run": "output of the first command; its words are looked for after it ran",
    "python3 -m venv .venv": "test_the_second_way_installs_this_package, without the network",
    "id,full_name,email": "test_the_pipeline_of_the_readme_does_what_it_says",
    "version = 1": "test_the_pipeline_of_the_readme_does_what_it_says",
    "engine check people.toml": "test_the_pipeline_of_the_readme_does_what_it_says",
    '{"index":0,"external_id"': "test_the_pipeline_of_the_readme_does_what_it_says",
    "platform  emulator, http://": "output of a run that goes on; see tests/chaos and tests/runtime/test_kill.py",
}


def blocks() -> list[str]:
    """Every block, fenced or indented; what is indented under an item of a list is text."""
    fenced = re.findall(r"^```\w*\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    rest = re.sub(r"^```.*?^```", "", README, flags=re.DOTALL | re.MULTILINE)
    return fenced + re.findall(r"(?<=\n\n)(?: {4,}.*\n)+", rest)


def indented(after: str) -> list[str]:
    """The lines of the first indented block after a text."""
    lines = README.partition(after)[2].splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("    "))
    block = []
    for line in lines[start:]:
        if not line.startswith("    "):
            break
        block.append(line[4:])
    return block


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The README's own pipeline and its input."""
    (tmp_path / "people.csv").write_text("\n".join(indented("`people.csv`:")) + "\n")
    [text] = re.findall(r"`people\.toml`:\n\n```toml\n(.*?)```", README, re.DOTALL)
    (tmp_path / "people.toml").write_text(text)
    return tmp_path


def test_the_pipeline_of_the_readme_does_what_it_says(folder: Path) -> None:
    """Each command as typed; the row it promises is there, and appended rows alone are sent by the next run."""
    for line in indented('path = "out/people"              # a directory of this pipeline\'s own\n```'):
        code, _, err = engine(line.split()[1:], cwd=folder)
        assert code == 0, err
    promised = indented("`out/people/` then holds one line per row")[0]
    texts = [path.read_text() for path in sorted((folder / "out" / "people").glob("part-*"))]
    assert promised in "".join(texts).splitlines()
    with (folder / "people.csv").open("a") as file:
        file.write("p-4,Di Example,\n")
    code, _, err = engine(["run", "people.toml"], cwd=folder)
    assert code == 0, err
    assert sorted(row["external_id"] for row in rows_in(folder / "out" / "people")) == ["p-1", "p-2", "p-3", "p-4"]
    assert len(list((folder / "out" / "people").glob("part-*"))) == 2


def test_every_command_of_the_readme_is_one() -> None:
    """Each verb and each of its options that the README shows in a command is known to `engine VERB --help`."""
    shown = set(re.findall(r"`engine ([a-z]+(?: [a-z]+)?)(?: [^`]*)?`", README))
    for words in sorted(shown):
        first, *more = words.split()
        _, out, _ = engine([first, "--help"], cwd=ROOT)
        assert out.startswith("Usage: engine"), words
        if more and "Commands:" in out:
            assert re.search(rf"^  {more[0]}\b", out, re.MULTILINE), words


def test_every_block_is_executed_or_says_why_not() -> None:
    """A block that nobody accounts for fails here, and so does an account of a block that is gone."""
    found = {
        next((start for start in BLOCKS if block.strip().startswith(start)), block.strip()[:60]) for block in blocks()
    }
    assert found == set(BLOCKS)


def test_the_first_command_moves_what_is_shipped(tmp_path: Path) -> None:
    """Its words after `uv run --no-dev`, in a checkout: all three pipelines balance, and again there is nothing new."""
    [line] = re.findall(r"^pip install uv && uv run --no-dev (engine run .*)$", README, re.MULTILINE)
    shutil.copytree(ROOT / "pipelines", tmp_path / "pipelines")
    shutil.copy(ROOT / "config.toml", tmp_path)
    files = shlex.split(line)[1:]
    code, out, err = engine(files, cwd=tmp_path)
    assert code == 0, err
    assert out.count("1 200 rows in = 1 200 accepted + 0 rejected + 0 dead-lettered + 0 filtered      balanced") == 3
    for name in ("import", "enrich", "export"):
        assert f"out/{name}/_manifest.json (1 part)" in out
        assert len(rows_in(tmp_path / "out" / name)) == 1200
    code, out, err = engine(files, cwd=tmp_path)
    assert code == 0, err
    assert out.count("nothing new") == 3


def test_the_second_way_installs_this_package() -> None:
    """`pip install -e .` finds a build system and the command, and the extras that the README names are there."""
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["build-system"]["requires"]
    assert project["project"]["scripts"]["engine"]
    named = {extra for found in re.findall(r'pip install -e "\.\[([a-z,]+)\]"', README) for extra in found.split(",")}
    assert named
    assert named <= set(project["project"]["optional-dependencies"])
