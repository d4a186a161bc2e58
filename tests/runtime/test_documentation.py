"""The documentation: every block of its pages is executed, and what the code has is on its reference pages."""

from __future__ import annotations

import re
import threading
import urllib.request
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from engine.cli.main import VERBS
from engine.cli.reference import pages
from engine.cli.site import REFERENCE, WRITTEN, build, texts
from engine.components.catalog import SINKS, SOURCES, TRANSFORMS
from engine.contract.catalog import ROUTES
from engine.errors import ERRORS
from engine.pipeline.findings import FINDINGS
from tests.runtime.process import engine

_BLOCK = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(text: str) -> Iterator[tuple[str, str, str]]:
    """The fenced blocks of a page: language, file name, text."""
    yield from _BLOCK.findall(text)


@pytest.mark.parametrize("name", WRITTEN)
def test_every_block_of_a_page_works_as_it_stands(name: str, tmp_path: Path) -> None:
    """Files are written, commands run one after the other; one that should fail says with which exit code."""
    ran = 0
    for language, file, text in blocks(texts()[name]):
        if file:
            (tmp_path / file).write_text(text)
            continue
        assert language == "sh", f"{name}: a block of {language} that nobody executes"
        for line in text.splitlines():
            command, _, said = line.partition("  # exit ")
            words = [word.strip("'") for word in command.split()]
            assert words[0] == "engine", line
            code, _, err = engine(words[1:], cwd=tmp_path)
            assert code == int(said or 0), f"{line}\n{err}"
            ran += 1
    assert ran or name == "guarantees"


def test_the_tutorial_ends_as_it_says(tmp_path: Path) -> None:
    """Two rows and a letter, then a third row by the replay, then all of them anew."""
    page = texts()["tutorial"]
    for _, file, text in blocks(page):
        if file:
            (tmp_path / file).write_text(text)
    code, out, err = engine(["run", "people.toml"], cwd=tmp_path)
    assert code == 0, err
    assert "3 rows in = 2 accepted + 0 rejected + 1 dead-lettered + 0 filtered" in out
    assert engine(["dlq", "edit", "p-2", "--set", "age=41"], cwd=tmp_path)[0] == 0
    code, out, err = engine(["dlq", "replay", "people.toml", "--all"], cwd=tmp_path)
    assert code == 0, err
    assert "1 rows in = 1 accepted" in out


def test_reference_pages_name_everything() -> None:
    """Each verb, option, component, code and route has its place."""
    made = pages()
    assert set(made) == set(REFERENCE)
    assert not [verb for verb in VERBS if f"## engine {verb}\n" not in made["commands"]]
    assert not [
        name for table in (SOURCES, TRANSFORMS, SINKS) for name in table if f"`{name}`" not in made["components"]
    ]
    codes = {kind.code for kind in ERRORS} | set(FINDINGS)
    assert not [code for code in codes if f"| `{code}` |" not in made["codes"]]
    assert not [name for name in ROUTES if f"`{name}`" not in made["routes"]]
    assert "`transform[].where`" in made["options"]


def test_the_site_is_served_and_its_links_lead_somewhere(tmp_path: Path) -> None:
    """Each page is one file of HTML, and no link of the menu is dead."""
    count = build(tmp_path)
    assert count == len(WRITTEN) + len(REFERENCE)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(tmp_path)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        base = f"http://127.0.0.1:{server.server_address[1]}/"
        index = urllib.request.urlopen(base).read().decode()
        links = set(re.findall(r'href="([a-z]+\.html)"', index))
        assert len(links) == count
        for link in links:
            text = urllib.request.urlopen(base + link).read().decode()
            assert "<main><h1>" in text
            assert "<script" not in text
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_the_verb_shows_and_builds(tmp_path: Path) -> None:
    """A page as text; the site as files; an unknown page names the others."""
    code, out, _ = engine(["docs", "show", "codes"], cwd=tmp_path)
    assert (code, out.splitlines()[0]) == (0, "# Error codes")
    assert engine(["docs", "build", "site"], cwd=tmp_path)[0] == 0
    assert (tmp_path / "site" / "index.html").is_file()
    code, _, err = engine(["docs", "show", "nothing"], cwd=tmp_path)
    assert code == 2
    assert "tutorial" in err


class _Quiet(SimpleHTTPRequestHandler):
    """Files, without a line for each request."""

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing."""
