"""Syntax of expressions: text to a tree, with the column of each part. A subset of CEL (Common Expression Language).

There are literals, members (`a`, `a.b`, `a["b"]`, `list[0]`, `row["any name"]`), arithmetic, comparisons, `in`, `!`,
`&&`, `||`, `c ? x : y`, lists, `has(a.b)` and the functions and methods of `values`. Not here: maps, macros over lists,
types as values, unsigned numbers, bytes, time. Nothing is evaluated here.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from engine.errors import RecordError
from engine.expression.values import FUNCTIONS, METHODS

CHARS_MAX = 4096
_DEPTH_MAX = 60
_INT_MAX = 2**63 - 1
_TOKEN = re.compile(
    r"""\s*(?:(?P<float>\d+\.\d+(?:[eE][+-]?\d+)?|\d+[eE][+-]?\d+)|(?P<int>0[xX][0-9a-fA-F]+|\d+)"""
    r"""|(?P<name>[A-Za-z_][A-Za-z0-9_]*)|(?P<text>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')"""
    r"""|(?P<sign>&&|\|\||==|!=|<=|>=|[-+*/%<>!?:.,()\[\]]))"""
)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", '"': '"', "'": "'", "`": "`", "?": "?"}
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|x[0-9a-fA-F]{2}|.)")
_WORDS = {"true": True, "false": False, "null": None}
# Words that CEL keeps for itself, so that no expression of ours means something else there.
_KEPT = frozenset(
    "as break const continue else for function if import let loop namespace package return var void while".split()
)
_RELATIONS = ("==", "!=", "<", "<=", ">", ">=", "in")


class Node(msgspec.Struct, frozen=True):
    """A part of an expression; `kind` says what `value` and `parts` are, `at` is its column from 0."""

    kind: str
    at: int
    value: Any = None
    parts: tuple[Node, ...] = ()


class _Token(msgspec.Struct, frozen=True):
    kind: str
    text: str
    at: int


def parse(text: str) -> Node:
    """The tree of an expression.

    Raises:
        RecordError: it is none; `facts["at"]` is the column, from 0.
    """
    if len(text) > CHARS_MAX:
        raise RecordError(f"an expression has at most {CHARS_MAX} characters", at=0)
    reader = _Reader(_tokens(text), len(text))
    tree = reader.ternary()
    if (left := reader.peek()) is not None:
        raise _wrong(f"`{left.text}` is not expected here", left.at)
    return tree


def members(tree: Node) -> set[str]:
    """The members of the row that an expression looks at."""
    found = {str(tree.value)} if tree.kind == "member" else set()
    return found.union(*(members(part) for part in tree.parts))


def _wrong(message: str, at: int) -> RecordError:
    return RecordError(message, at=at)


def _tokens(text: str) -> list[_Token]:
    tokens, place = [], 0
    end = len(text.rstrip())
    while place < end:
        match = _TOKEN.match(text, place)
        if match is None or match.lastgroup is None:
            at = place + len(text[place:]) - len(text[place:].lstrip())
            raise _wrong(f"`{text[at]}` begins nothing that is known", at)
        tokens.append(_Token(match.lastgroup, match[match.lastgroup], match.start(match.lastgroup)))
        place = match.end()
    return tokens


class _Reader:
    """Reads the grammar from loose to tight: ? :, ||, &&, relations, + -, * / %, ! -, members and calls."""

    def __init__(self, tokens: list[_Token], end: int) -> None:
        self._tokens = tokens
        self._end = end
        self._next = 0
        self._depth = 0

    def peek(self) -> _Token | None:
        return self._tokens[self._next] if self._next < len(self._tokens) else None

    def ternary(self) -> Node:
        self._depth += 1
        if self._depth > _DEPTH_MAX:
            raise _wrong(f"nested deeper than {_DEPTH_MAX}", self._here)
        condition = self._either("||", lambda: self._either("&&", self._relation))
        if (sign := self._take("?")) is not None:
            then = self.ternary()
            self._need(":")
            condition = Node("if", sign.at, None, (condition, then, self.ternary()))
        self._depth -= 1
        return condition

    @property
    def _here(self) -> int:
        token = self.peek()
        return token.at if token else self._end

    def _take(self, *signs: str) -> _Token | None:
        token = self.peek()
        if token is None or token.text not in signs or token.kind == "text":
            return None
        self._next += 1
        return token

    def _need(self, sign: str) -> _Token:
        token = self._take(sign)
        if token is None:
            raise _wrong(f"`{sign}` is missing", self._here)
        return token

    def _either(self, sign: str, tighter: Any) -> Node:
        left: Node = tighter()
        while (token := self._take(sign)) is not None:
            left = Node("logic", token.at, sign, (left, tighter()))
        return left

    def _relation(self) -> Node:
        left = self._sum()
        while (token := self._take(*_RELATIONS)) is not None:
            left = Node("relation", token.at, token.text, (left, self._sum()))
        return left

    def _sum(self) -> Node:
        left = self._product()
        while (token := self._take("+", "-")) is not None:
            left = Node("arithmetic", token.at, token.text, (left, self._product()))
        return left

    def _product(self) -> Node:
        left = self._unary()
        while (token := self._take("*", "/", "%")) is not None:
            left = Node("arithmetic", token.at, token.text, (left, self._unary()))
        return left

    def _unary(self) -> Node:
        signs = []
        while (token := self._take("!", "-")) is not None:
            signs.append(token)
            if len(signs) > _DEPTH_MAX:
                raise _wrong(f"nested deeper than {_DEPTH_MAX}", token.at)
        node = self._member()
        for token in reversed(signs):
            node = Node("not" if token.text == "!" else "minus", token.at, None, (node,))
        return node

    def _member(self) -> Node:
        node, turns = self._primary(), 0
        while (token := self._take(".", "[")) is not None:
            turns += 1
            if turns > _DEPTH_MAX:
                raise _wrong(f"a path of more than {_DEPTH_MAX} steps", token.at)
            if token.text == "[":
                node = Node("index", token.at, None, (node, self.ternary()))
                self._need("]")
                continue
            name = self._name()
            if self._take("(") is not None:
                node = _call(METHODS, name, (node, *self._arguments(")")), is_method=True)
            else:
                node = Node("select", name.at, name.text, (node,))
        return node

    def _primary(self) -> Node:
        token = self.peek()
        if token is None:
            raise _wrong("the expression ends too early", self._end)
        self._next += 1
        match token.kind:
            case "int":
                number = int(token.text, 0) if token.text[:2] in ("0x", "0X") else int(token.text)
                if number > _INT_MAX:
                    raise _wrong("a whole number has 64 bits at most", token.at)
                return Node("value", token.at, number)
            case "float":
                return Node("value", token.at, float(token.text))
            case "text":
                return Node("value", token.at, _unescaped(token))
            case "name":
                return self._named(token)
        if token.text == "(":
            inner = self.ternary()
            self._need(")")
            return inner
        if token.text == "[":
            return Node("list", token.at, None, self._arguments("]"))
        raise _wrong(f"`{token.text}` is not expected here", token.at)

    def _named(self, token: _Token) -> Node:
        if token.text in _WORDS:
            return Node("value", token.at, _WORDS[token.text])
        if token.text in _KEPT or token.text == "in":
            raise _wrong(f'`{token.text}` is a word of the language; write row["{token.text}"]', token.at)
        if self._take("(") is None:
            return Node("row", token.at) if token.text == "row" else Node("member", token.at, token.text)
        if token.text == "has":
            return self._has(token)
        return _call(FUNCTIONS, token, self._arguments(")"), is_method=False)

    def _has(self, token: _Token) -> Node:
        path = self.ternary()
        self._need(")")
        if path.kind not in ("select", "member", "index"):
            raise _wrong("`has` takes a path, like has(a.b)", token.at)
        return Node("has", token.at, None, (path,))

    def _name(self) -> _Token:
        token = self.peek()
        if token is None or token.kind != "name":
            raise _wrong("a name is missing", self._here)
        self._next += 1
        return token

    def _arguments(self, end: str) -> tuple[Node, ...]:
        found: list[Node] = []
        while self._take(end) is None:
            if found:
                self._need(",")
            found.append(self.ternary())
        return tuple(found)


def _call(
    known: dict[str, tuple[Any, tuple[int, ...]]], name: _Token, parts: tuple[Node, ...], *, is_method: bool
) -> Node:
    what = "method" if is_method else "function"
    if name.text not in known:
        raise RecordError(f"there is no {what} `{name.text}`", at=name.at, hint=f"{what}s: {', '.join(sorted(known))}")
    given, counts = len(parts) - is_method, known[name.text][1]
    if given not in counts:
        takes = " or ".join(map(str, counts))
        raise _wrong(f"`{name.text}` takes {takes} argument{'s' if counts != (1,) else ''}, not {given}", name.at)
    return Node("method" if is_method else "function", name.at, name.text, parts)


def _unescaped(token: _Token) -> str:
    def one(match: re.Match[str]) -> str:
        word = match[1]
        if len(word) > 1:
            code = int(word[1:], 16)
            if code > 0x10FFFF or 0xD800 <= code <= 0xDFFF:
                raise _wrong(f"\\{word} is no character", token.at)
            return chr(code)
        if word not in _ESCAPES:
            raise _wrong(f"`\\{word}` stands for nothing", token.at)
        return _ESCAPES[word]

    return _ESCAPE.sub(one, token.text[1:-1])
