"""What expressions compute with: operations, functions and methods, each strict about the types it takes.

As in CEL: whole numbers have 64 bits and overflow is an error, text is not a number, true is not 1, and a member that
is not there is an error. Results are bounded, so that no row can grow into a bomb.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

TEXT_MAX = 1024 * 1024
_INT_MIN, _INT_MAX = -(2**63), 2**63 - 1


class Failed(Exception):
    """Why an expression has no value for a row."""


def _name(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case int():
            return "a whole number"
        case float():
            return "a number"
        case str():
            return "text"
        case list():
            return "a list"
        case dict():
            return "an object"
    return type(value).__name__


def _is_number(value: Any) -> bool:
    return type(value) is int or type(value) is float


def _whole(value: int) -> int:
    if not _INT_MIN <= value <= _INT_MAX:
        raise Failed("the result has more than 64 bits")
    return value


def _short(text: str) -> str:
    if len(text) > TEXT_MAX:
        raise Failed(f"the text would have more than {TEXT_MAX} characters")
    return text


def member(row: Any, name: str) -> Any:
    """A member of an object."""
    try:
        return row[name]
    except (KeyError, TypeError):
        if isinstance(row, dict):
            raise Failed(f"there is no member `{name}`") from None
        raise Failed(f"{_name(row)} has no member `{name}`") from None


def item(value: Any, index: Any) -> Any:
    """An element of a list, or a member by its name."""
    if isinstance(value, dict) and isinstance(index, str):
        return member(value, index)
    if isinstance(value, list) and type(index) is int:
        if 0 <= index < len(value):
            return value[index]
        raise Failed(f"the list has {len(value)} elements, none at {index}")
    raise Failed(f"{_name(value)} cannot be asked for {_name(index)}")


def has(value: Any, name: Any) -> bool:
    """Whether a member is there, or an element."""
    if isinstance(value, dict):
        return name in value
    return isinstance(value, list) and type(name) is int and 0 <= name < len(value)


def add(left: Any, right: Any) -> Any:
    """A sum, or two texts or lists joined."""
    if type(left) is int and type(right) is int:
        return _whole(left + right)
    if _is_number(left) and _is_number(right):
        return float(left + right)
    if isinstance(left, str) and isinstance(right, str):
        return _short(left + right)
    if isinstance(left, list) and isinstance(right, list):
        return left + right
    raise _mismatch("+", left, right)


def subtract(left: Any, right: Any) -> Any:
    """A difference."""
    return _arithmetic("-", left, right, lambda a, b: a - b)


def multiply(left: Any, right: Any) -> Any:
    """A product."""
    return _arithmetic("*", left, right, lambda a, b: a * b)


def divide(left: Any, right: Any) -> Any:
    """A quotient; of whole numbers the whole one towards zero."""
    if type(left) is int and type(right) is int:
        if right == 0:
            raise Failed("a division by zero")
        quotient = abs(left) // abs(right)
        return _whole(quotient if (left < 0) == (right < 0) else -quotient)
    if not (_is_number(left) and _is_number(right)):
        raise _mismatch("/", left, right)
    if right == 0:
        # IEEE 754, as CEL has it for doubles.
        return math.nan if left == 0 or math.isnan(left) else math.copysign(math.inf, left) * math.copysign(1.0, right)
    return float(left / right)


def remainder(left: Any, right: Any) -> Any:
    """What a whole division leaves, with the sign of the first."""
    if type(left) is not int or type(right) is not int:
        raise _mismatch("%", left, right)
    if right == 0:
        raise Failed("a division by zero")
    rest = abs(left) % abs(right)
    return rest if left >= 0 else -rest


def _arithmetic(sign: str, left: Any, right: Any, work: Callable[[Any, Any], Any]) -> Any:
    if type(left) is int and type(right) is int:
        return _whole(work(left, right))
    if _is_number(left) and _is_number(right):
        return float(work(left, right))
    raise _mismatch(sign, left, right)


def minus(value: Any) -> Any:
    """The negative of a number."""
    if not _is_number(value):
        raise Failed(f"`-` takes a number, not {_name(value)}")
    return _whole(-value) if type(value) is int else -value


def _mismatch(sign: str, left: Any, right: Any) -> Failed:
    return Failed(f"`{sign}` cannot work on {_name(left)} and {_name(right)}")


def truth(value: Any) -> bool:
    """A condition's value, which must be true or false."""
    if value is True or value is False:
        return bool(value)
    raise Failed(f"a condition is true or false, not {_name(value)}")


def equal(left: Any, right: Any) -> bool:
    """Whether two values are the same; true is not 1."""
    if isinstance(left, bool) is not isinstance(right, bool):
        return False
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(equal, left, right))
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(equal(left[name], right[name]) for name in left)
    return bool(left == right)


def less(left: Any, right: Any) -> bool:
    """Whether the first comes before the second: numbers, texts, or false before true."""
    is_alike = type(left) is type(right) and isinstance(left, str | bool)
    if not (is_alike or (_is_number(left) and _is_number(right))):
        raise _mismatch("<", left, right)
    return bool(left < right)


def less_equal(left: Any, right: Any) -> bool:
    """Whether the first comes before the second, or is the same."""
    return less(left, right) or equal(left, right)


def within(value: Any, many: Any) -> bool:
    """Whether a list holds a value, or an object has a member of that name."""
    if isinstance(many, list):
        return any(equal(value, one) for one in many)
    if isinstance(many, dict):
        return value in many if isinstance(value, str) else False
    raise Failed(f"`in` looks into a list or an object, not into {_name(many)}")


def size(value: Any) -> int:
    """How many characters, elements or members."""
    if isinstance(value, str | list | dict):
        return len(value)
    raise Failed(f"`size` takes text, a list or an object, not {_name(value)}")


def to_int(value: Any) -> int:
    """A whole number out of text, a number (towards zero), or true and false."""
    try:
        if isinstance(value, float):
            return _whole(int(value))
        if isinstance(value, int | str) and not isinstance(value, bool):
            return _whole(int(value))
    except (ValueError, OverflowError):
        pass
    raise Failed(f"`int` cannot read {_shown(value)}")


def to_double(value: Any) -> float:
    """A number out of text or a number."""
    try:
        if isinstance(value, int | float | str) and not isinstance(value, bool):
            return float(value)
    except (ValueError, OverflowError):
        pass
    raise Failed(f"`double` cannot read {_shown(value)}")


def to_text(value: Any) -> str:
    """Text out of a number, true or false, or text."""
    if value is True or value is False:
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, str | int | float):
        return str(value)
    raise Failed(f"`string` cannot write {_name(value)}")


def to_bool(value: Any) -> bool:
    """True or false out of the words for them."""
    words = {"true": True, "false": False, "True": True, "False": False, "t": True, "f": False, "1": True, "0": False}
    if value is True or value is False:
        return bool(value)
    if isinstance(value, str) and value in words:
        return words[value]
    raise Failed(f"`bool` cannot read {_shown(value)}")


def _shown(value: Any) -> str:
    return f"{value[:40]!r}" if isinstance(value, str) else _name(value)


def _of_text(name: str, value: Any, *arguments: Any) -> None:
    for one in (value, *arguments):
        if not isinstance(one, str):
            raise Failed(f"`{name}` works on text, not on {_name(one)}")


def _replace(value: Any, old: Any, new: Any) -> str:
    _of_text("replace", value, old, new)
    if len(value) + value.count(old) * max(len(new) - len(old), 0) > TEXT_MAX:
        raise Failed(f"the text would have more than {TEXT_MAX} characters")
    return str(value.replace(old, new))


def _split(value: Any, separator: Any) -> list[str]:
    _of_text("split", value, separator)
    return value.split(separator) if separator else list(value)


def _join(value: Any, separator: Any = "") -> str:
    if not isinstance(value, list):
        raise Failed(f"`join` works on a list, not on {_name(value)}")
    _of_text("join", separator, *value)
    return _short(separator.join(value))


def _substring(value: Any, start: Any, end: Any = None) -> str:
    _of_text("substring", value)
    end = len(value) if end is None else end
    if type(start) is not int or type(end) is not int or not 0 <= start <= end <= len(value):
        raise Failed(f"`substring` of {len(value)} characters cannot be from {start!r} to {end!r}")
    return str(value[start:end])


def _on_text(name: str, work: Callable[..., Any]) -> Callable[..., Any]:
    def method(value: Any, *arguments: Any) -> Any:
        _of_text(name, value, *arguments)
        return work(value, *arguments)

    return method


def _ascii(value: str, *, is_upper: bool) -> str:
    return "".join((one.upper() if is_upper else one.lower()) if one.isascii() else one for one in value)


# By name: what is called, and how many arguments it takes besides the value of a method.
FUNCTIONS: dict[str, tuple[Callable[..., Any], tuple[int, ...]]] = {
    "size": (size, (1,)),
    "int": (to_int, (1,)),
    "double": (to_double, (1,)),
    "string": (to_text, (1,)),
    "bool": (to_bool, (1,)),
}
METHODS: dict[str, tuple[Callable[..., Any], tuple[int, ...]]] = {
    "size": (size, (0,)),
    "contains": (_on_text("contains", lambda value, part: part in value), (1,)),
    "startsWith": (_on_text("startsWith", str.startswith), (1,)),
    "endsWith": (_on_text("endsWith", str.endswith), (1,)),
    "lowerAscii": (_on_text("lowerAscii", lambda value: _ascii(value, is_upper=False)), (0,)),
    "upperAscii": (_on_text("upperAscii", lambda value: _ascii(value, is_upper=True)), (0,)),
    "trim": (_on_text("trim", str.strip), (0,)),
    "indexOf": (_on_text("indexOf", str.find), (1,)),
    "replace": (_replace, (2,)),
    "split": (_split, (1,)),
    "join": (_join, (0, 1)),
    "substring": (_substring, (1, 2)),
}
