"""What the README shows is what happens: its files, its commands, and the row it promises."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.runtime.process import ROOT, engine, rows_in

README = (ROOT / "README.md").read_text(encoding="utf-8")


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
