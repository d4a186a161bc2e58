"""The documentation as pages of HTML: Markdown in, files out, one stylesheet, no script.

The texts are in `engine/docs` and in `reference`; how they look is here, and nothing else.
"""

from __future__ import annotations

import html
import re
from importlib import resources
from pathlib import Path
from typing import Any

from engine.cli.reference import pages as reference_pages
from engine.errors import MissingExtra
from engine.version import __version__

# The pages people wrote, in reading order, with the words of the menu.
WRITTEN = {"tutorial": "Tutorial", "howto": "How to", "guarantees": "What is promised"}
REFERENCE = {
    "commands": "Commands", "options": "Options", "components": "Components", "codes": "Error codes",
    "routes": "Routes",
}  # fmt: skip
_STYLE = """
:root{color-scheme:light dark;--line:#8884}
body{margin:0 auto;max-width:68rem;padding:1rem;font:16px/1.55 system-ui,sans-serif;display:grid;
grid-template-columns:11rem minmax(0,1fr);gap:2rem}
nav a{display:block;padding:.15rem 0;text-decoration:none}nav a[aria-current]{font-weight:700}
nav b{display:block;margin-top:1rem;font-size:.85em;opacity:.7}
pre{overflow-x:auto;padding:.7rem;border:1px solid var(--line);border-radius:6px}
code{font:14px/1.5 ui-monospace,monospace}
table{border-collapse:collapse;display:block;overflow-x:auto}td,th{border:1px solid var(--line);padding:.3rem .55rem;
text-align:left;vertical-align:top}
@media(max-width:46rem){body{display:block}}
"""
_HEADING = re.compile(r"<(h[23])>(.*?)</\1>")


def texts() -> dict[str, str]:
    """Every page as Markdown, by its name, in reading order."""
    room = resources.files("engine.docs")
    written = {name: (room / f"{name}.md").read_text(encoding="utf-8") for name in WRITTEN}
    return {**written, **reference_pages()}


def build(directory: Path) -> int:
    """Write the site into a directory; how many pages.

    Raises:
        MissingExtra: the Markdown library is not installed. OSError: the directory cannot be written.
    """
    render = _renderer()
    directory.mkdir(parents=True, exist_ok=True)
    found = texts()
    for name, text in found.items():
        (directory / f"{name}.html").write_text(_page(name, text, render), encoding="utf-8")
    (directory / "index.html").write_text(_page("tutorial", found["tutorial"], render), encoding="utf-8")
    return len(found)


def _renderer() -> Any:
    try:
        from markdown_it import MarkdownIt
    except ImportError:
        raise MissingExtra(need="the documentation as HTML", extra="docs") from None
    return MarkdownIt("commonmark", {"html": False}).enable("table").render


def _page(name: str, text: str, render: Any) -> str:
    title = text.partition("\n")[0].lstrip("# ")
    body = _HEADING.sub(lambda found: f'<{found[1]} id="{_anchor(found[2])}">{found[2]}</{found[1]}>', render(text))
    menu = _menu(WRITTEN, name) + "<b>Reference</b>" + _menu(REFERENCE, name)
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{html.escape(title)} · engine {__version__}</title><style>{_STYLE}</style>"
        f"<nav>{menu}</nav><main>{body}</main></html>\n"
    )


def _menu(names: dict[str, str], current: str) -> str:
    here = {True: ' aria-current="page"', False: ""}
    return "".join(
        f'<a href="{name}.html"{here[name == current]}>{html.escape(said)}</a>' for name, said in names.items()
    )


def _anchor(heading: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", re.sub(r"<[^>]+>", "", heading).lower()).strip("-")
