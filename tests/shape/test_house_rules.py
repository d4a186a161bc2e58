"""House rules: how large things may grow, what they may be called, and what no file may hold.

Each rule reports every finding at once, as `path:line: what`.
"""

import ast
import re
import statistics
from collections.abc import Iterator
from pathlib import Path

FILE_LINES = 400
FUNCTION_LINES = 60
ARGUMENTS = 6
EXCUSE = "Long because"
HOMELESS = {"util", "utils", "helper", "helpers", "common", "base", "misc", "models", "types"}
CLOCKS = {"anyio", "asyncio", "time", "trio"}

# Written with brackets so that this file does not hold what it looks for.
MACHINE_PATH = re.compile(r"/(?:wor[k]|roo[t]|farm[/]|hom[e]/\w+|User[s]/\w+)/")
REGISTRY_HOST = re.compile(r"py[p]i\.org|python[h]osted\.org|registry\.np[m]js|crates[.]io|proxy\.gol[a]ng")

Function = ast.FunctionDef | ast.AsyncFunctionDef


def _functions(tree: ast.Module) -> Iterator[Function]:
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def _length(function: Function) -> int:
    return (function.end_lineno or function.lineno) - function.lineno + 1


def _is_excused(function: Function, lines: list[str]) -> bool:
    """A comment directly above the function (or its decorators), or before its first statement."""
    first = min([function.lineno, *(mark.lineno for mark in function.decorator_list)]) - 1
    above = first
    while above and lines[above - 1].lstrip().startswith("#"):
        above -= 1
    body = [node for node in function.body if not _is_docstring(node)]
    opening = lines[function.lineno : body[0].lineno - 1] if body else []
    comments = [line for line in lines[above:first] + opening if line.lstrip().startswith("#")]
    return any(EXCUSE in line for line in comments)


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _arguments(function: Function) -> int:
    spec = function.args
    names = [argument.arg for argument in (*spec.posonlyargs, *spec.args, *spec.kwonlyargs)]
    return len(names) - (names[:1] in (["self"], ["cls"]))


def _is_verb(function: Function) -> bool:
    """A verb of the command line: its parameters are the flags its user may type, so click counts them."""
    marks = (mark.func for mark in function.decorator_list if isinstance(mark, ast.Call))
    return any(isinstance(mark, ast.Attribute) and mark.attr in {"option", "argument"} for mark in marks)


def test_files_stay_small(engine_modules) -> None:
    """Every file of the engine has fewer than 400 lines."""
    findings = [f"{m.path}: {len(m.lines)} lines" for m in engine_modules if len(m.lines) >= FILE_LINES]

    assert not findings, "\n".join(findings)


def test_a_long_function_says_why(engine_modules) -> None:
    """A function over 60 lines carries a comment that says why it is long."""
    findings = [
        f"{module.path}:{function.lineno}: {function.name} has {_length(function)} lines"
        for module in engine_modules
        for function in _functions(module.tree)
        if _length(function) > FUNCTION_LINES and not _is_excused(function, module.lines)
    ]

    assert not findings, "\n".join(findings)


def test_most_functions_are_short(engine_modules) -> None:
    """Nine functions of ten have at most 30 lines."""
    lengths = [_length(function) for module in engine_modules for function in _functions(module.tree)]

    assert statistics.quantiles(lengths, n=10)[-1] <= 30


def test_functions_take_six_arguments_at_most(engine_modules) -> None:
    """Past six arguments a Struct is asking to be born."""
    findings = [
        f"{module.path}:{function.lineno}: {function.name} takes {_arguments(function)} arguments"
        for module in engine_modules
        for function in _functions(module.tree)
        if _arguments(function) > ARGUMENTS and not _is_verb(function)
    ]

    assert not findings, "\n".join(findings)


def test_no_pattern_has_a_possessive_group(engine_modules) -> None:
    """`(?:...)*+` matches wrongly before CPython 3.11.5 (gh-106052), and the promise is 3.11: `(?>(?:...)*)`."""
    possessive = re.compile(r"\)(?:[*+?]|\{[\d,]+\})\+")
    offenders = [
        f"{module.path}:{node.lineno}"
        for module in engine_modules
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str | bytes)
        and possessive.search(node.value if isinstance(node.value, str) else node.value.decode("latin-1"))
    ]

    assert offenders == []


def test_every_module_has_a_subject(engine_modules) -> None:
    """No file or room is called util, helpers, common, base, misc, models or types."""
    findings = [
        module.path
        for module in engine_modules
        if HOMELESS & {part.strip("_") for part in Path(module.path).with_suffix("").parts}
    ]

    assert not findings, "\n".join(findings)


def test_every_file_opens_with_its_law(engine_modules) -> None:
    """Every module and every room of the engine opens with a docstring."""
    findings = [module.path for module in engine_modules if not ast.get_docstring(module.tree)]

    assert not findings, "\n".join(findings)


def test_every_room_has_a_door_plate(root: Path) -> None:
    """Every folder of the engine that holds Python is a package, with an `__init__.py`."""
    rooms = {path.parent for path in (root / "engine").rglob("*.py")}

    assert not [room.relative_to(root).as_posix() for room in rooms if not (room / "__init__.py").exists()]


def test_every_test_is_one_sentence(test_modules) -> None:
    """Every test says in a docstring what it holds true."""
    findings = [
        f"{module.path}:{function.lineno}: {function.name}"
        for module in test_modules
        if Path(module.path).name.startswith("test_")
        for function in _functions(module.tree)
        if function.name.startswith("test_") and not ast.get_docstring(function)
    ]

    assert not findings, "\n".join(findings)


def _naps(tree: ast.Module) -> Iterator[int]:
    """Lines that sleep by a real clock; `clock.sleep` of a manual clock is an event, and free."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(owner), attr="sleep")) if owner in CLOCKS:
                yield node.lineno
            case ast.ImportFrom(module=str(owner), names=names) if owner in CLOCKS:
                yield from (node.lineno for alias in names if alias.name == "sleep")


def test_no_test_sleeps(test_modules) -> None:
    """Tests wait for events, never for time to pass."""
    findings = [f"{module.path}:{line}" for module in test_modules for line in _naps(module.tree)]

    assert not findings, "\n".join(findings)


def _names(node: ast.AST) -> list[str]:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name):
            return [name]
        case ast.Import(names=names):
            return [alias.name for alias in names]
        case ast.ImportFrom(module=module, names=names):
            return [module or "", *(alias.name for alias in names)]
    return []


def test_no_test_replaces_our_own_code(test_modules) -> None:
    """Tests use the shipped doubles (the emulator, the in-memory ledger), never a mocked object."""
    word = re.compile(r"(?<![a-z])mock", re.IGNORECASE)
    findings = [
        f"{module.path}:{node.lineno}: {name}"
        for module in test_modules
        for node in ast.walk(module.tree)
        for name in _names(node)
        if word.search(name) and name != "test_mock"
    ]

    assert not findings, "\n".join(findings)


def test_no_file_names_one_machine_or_a_registry(root: Path, repository_files) -> None:
    """No committed file holds a path of one machine, or the host of a package registry."""
    findings = []
    for path in repository_files:
        text = path.read_text(encoding="utf-8", errors="replace")
        for number, line in enumerate(text.splitlines(), start=1):
            if found := MACHINE_PATH.search(line) or REGISTRY_HOST.search(line):
                findings.append(f"{path.relative_to(root)}:{number}: {found.group()}")

    assert not findings, "\n".join(findings)
