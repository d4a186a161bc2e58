"""Expressions compiled: a tree becomes one Python function over a row, out of our own names and nothing else.

The source holds no text of the user's: values are constants of a tuple, members are asked for by index into it. So
nothing that is written in a pipeline file can name anything of Python's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from engine.errors import RecordError
from engine.expression import values
from engine.expression.syntax import Node, parse
from engine.expression.values import FUNCTIONS, METHODS, Failed

_ARITHMETIC = {"+": "add", "-": "subtract", "*": "multiply", "/": "divide", "%": "remainder"}
_RELATIONS = {
    "==": "equal({0}, {1})", "!=": "not equal({0}, {1})", "<": "less({0}, {1})", ">": "less({1}, {0})",
    "<=": "less_equal({0}, {1})", ">=": "less_equal({1}, {0})", "in": "within({0}, {1})",
}  # fmt: skip
_NAMES = (
    "add", "subtract", "multiply", "divide", "remainder", "minus", "truth", "equal", "less", "less_equal", "within",
    "member", "item", "has",
)  # fmt: skip


class Expression:
    """One expression, called with a row.

    Raises:
        RecordError: (when made) the text is no expression; `facts["at"]` is the column, from 0.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self._function = _compiled(parse(text))

    def __call__(self, row: dict[str, Any]) -> Any:
        """The value for a row.

        Raises:
            Failed: it has none; the message says why.
        """
        try:
            return self._function(row)
        except (RecursionError, MemoryError, OverflowError, ValueError, TypeError) as exc:
            raise Failed(f"it cannot be computed: {type(exc).__name__}") from exc


def check(text: str) -> RecordError | None:
    """What is wrong with the text of an expression; None when nothing is."""
    try:
        Expression(text)
    except RecordError as exc:
        return exc
    return None


def _compiled(tree: Node) -> Callable[[dict[str, Any]], Any]:
    constants: list[Any] = []
    source = f"lambda row: {_emit(tree, constants)}"
    names: dict[str, Any] = {name: getattr(values, name) for name in _NAMES}
    names |= {f"f_{name}": function for name, (function, _) in FUNCTIONS.items()}
    names |= {f"m_{name}": method for name, (method, _) in METHODS.items()}
    # `source` is made of our own words alone: names of the table above, and indexes into `k`.
    code = compile(source, "<expression>", "eval")
    made: Callable[[dict[str, Any]], Any] = eval(code, {"__builtins__": {}, "k": tuple(constants), **names})  # noqa: S307
    return made


def _emit(node: Node, constants: list[Any]) -> str:
    if node.kind == "has":
        return _emit_has(node.parts[0], constants)
    parts = [_emit(part, constants) for part in node.parts]
    match node.kind:
        case "relation":
            return f"({_RELATIONS[node.value].format(*parts)})"
        case "arithmetic":
            return f"{_ARITHMETIC[node.value]}({parts[0]}, {parts[1]})"
        case "logic":
            word = "and" if node.value == "&&" else "or"
            return f"(truth({parts[0]}) {word} truth({parts[1]}))"
        case "function" | "method":
            return f"{node.kind[0]}_{node.value}({', '.join(parts)})"
        case "list":
            return f"[{', '.join(parts)}]"
    return _FORMS[node.kind].format(*parts, name=_constant(node.value, constants))


# What the other kinds become; `name` is the node's own value as a constant.
_FORMS = {
    "value": "{name}", "row": "row", "member": "member(row, {name})", "select": "member({0}, {name})",
    "index": "item({0}, {1})", "not": "(not truth({0}))", "minus": "minus({0})",
    "if": "({1} if truth({0}) else {2})",
}  # fmt: skip


def _emit_has(path: Node, constants: list[Any]) -> str:
    if path.kind == "member":
        return f"has(row, {_constant(path.value, constants)})"
    whole = _emit(path.parts[0], constants)
    name = _constant(path.value, constants) if path.kind == "select" else _emit(path.parts[1], constants)
    return f"has({whole}, {name})"


def _constant(value: Any, constants: list[Any]) -> str:
    constants.append(value)
    return f"k[{len(constants) - 1}]"
