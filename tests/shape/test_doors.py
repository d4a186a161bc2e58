"""The doors: which file of `engine` may import which library (design, section 5).

The table is exact and complete: a library that is not in it may not be imported at all, so a new
dependency starts here, with a decision entry in engine/ARCHITECTURE.md.
"""

import ast
import sys
from collections.abc import Iterator

# A name that ends in "/" is a folder: every file below it is the door.
DOORS = {
    "aiohttp": ("engine/transport/pooled.py",),
    "orjson": ("engine/codec/payload.py",),
    "msgspec.json": ("engine/codec/payload.py", "engine/codec/canonical.py"),
    # Comes with aiohttp; signed URLs need its `encoded=True`, or aiohttp quotes them again.
    "yarl": ("engine/transport/pooled.py",),
    "httptools": ("engine/transport/answer.py", "engine/transport/request_parser.py"),
    "rfc8785": ("engine/codec/canonical.py",),
    "backports.zstd": ("engine/codec/", "engine/components/"),
    "compression.zstd": ("engine/codec/", "engine/components/"),
    "opentelemetry": ("engine/telemetry/otel.py",),
    "sqlite3": ("engine/store/sqlite.py", "engine/emulator/state.py"),
    "uvloop": ("engine/cli/",),
    "click": ("engine/cli/",),
    "markdown_it": ("engine/cli/site.py",),
    "cryptography": ("engine/trust/",),
    "joserfc": ("engine/trust/",),
    "arro3": ("engine/components/sinks/", "engine/components/sources/parquet.py", "engine/chaos/columns.py"),
    "pyarrow": ("engine/components/sinks/",),
    "asyncpg": ("engine/components/",),
    "obstore": ("engine/components/",),
    "networkx": ("engine/emulator/",),
    "numpy": ("engine/emulator/",),
    "scipy": ("engine/emulator/",),
}
# Small, fast, and part of how the code is written: free everywhere.
FREE = {"engine", "anyio", "msgspec", *sys.stdlib_module_names}


def _imports(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Every library a file reaches for, as (line, dotted name), also by string and by attribute."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from ((node.lineno, alias.name) for alias in names)
            case ast.ImportFrom(module=str(module), names=names, level=0):
                yield from ((node.lineno, f"{module}.{alias.name}") for alias in names)
            case ast.Call(
                func=ast.Name("__import__" | "import_module") | ast.Attribute(attr="import_module"),
                args=[ast.Constant(str(name)), *_],
            ):
                yield node.lineno, name
            case ast.Attribute(value=ast.Name("msgspec"), attr="json"):
                yield node.lineno, "msgspec.json"


def _is_in(name: str, library: str) -> bool:
    return name == library or name.startswith(library + ".")


def _is_open(path: str, doors: tuple[str, ...]) -> bool:
    return any(path == door or (door.endswith("/") and path.startswith(door)) for door in doors)


def _refusal(path: str, name: str) -> str | None:
    """Say why this file may not import this name; None if it may."""
    for library, doors in DOORS.items():
        if _is_in(name, library):
            return None if _is_open(path, doors) else f"{library} enters by {', '.join(doors)}"
    return None if name.partition(".")[0] in FREE else f"{name} has no door yet"


def test_each_library_enters_by_its_door(engine_modules) -> None:
    """A heavy library is imported only in the files that the table of doors names for it."""
    findings = {
        f"{module.path}:{line}: {refusal}"
        for module in engine_modules
        for line, name in _imports(module.tree)
        if (refusal := _refusal(module.path, name))
    }

    assert not findings, "\n".join(sorted(findings))


def test_the_check_sees_every_way_in() -> None:
    """An import by statement, by name, by string or by attribute is seen, wherever it stands."""
    tree = ast.parse(
        "import aiohttp.web as web\n"
        "def late():\n"
        "    from opentelemetry import trace\n"
        "    importlib.import_module('scipy.sparse')\n"
        "    return msgspec.json.encode(1)\n"
        "from msgspec import json\n"
        "import left_pad\n"
    )

    refused = {line for line, name in _imports(tree) if _refusal("engine/record.py", name)}

    assert refused == {1, 3, 4, 5, 6, 7}
