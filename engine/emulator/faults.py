"""Faults: a seeded script of mischief, read from TOML, that the tests, `engine chaos` and users share.

A rule says where it may strike (a point), on whom, how often, and what then happens; whoever stands at that
point asks `strike` and does what the fault says. Chance comes from the seed, so a script plays the same way
twice. Nothing here acts.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import msgspec

from engine.errors import ConfigError

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_DELAY: dict[str, tuple[type, ...]] = {"delay": (int, float, str), "spread": (int, float)}
_ANSWER: dict[str, tuple[type, ...]] = {
    "status": (int,), "retry_after": (int, str), "code": (str,), "drop": (bool,), **_DELAY
}  # fmt: skip

# What a fault may say at each point: its members and their types.
POINTS: dict[str, dict[str, tuple[type, ...]]] = {
    # Before the effect: refuse, wait, or close the connection.
    "request": _ANSWER,
    # After the effect: wait, or lose the answer.
    "response": {"drop": (bool,), **_DELAY},
    # A token's life in seconds, its clock's error in seconds, or no token at all.
    "token": {"ttl": (int,), "skew": (int, float), **_ANSWER},
    "jwks": {"garbage": (bool,), **_ANSWER},
    "job.duration": {"factor": (int, float), "seconds": (int, float), "stuck": (bool,)},
    "job.outcome": {"status": (str,), "code": (str,), "message": (str,), "retryable": (bool,)},
    # Rows that vanish or come twice while the summary still says all; a summary that is off by so many; or rows with
    # a member `pad` of so many bytes more.
    "result.rows": {"drop": (int,), "duplicate": (int,), "miscount": (int,), "pad": (int,)},
    "result.url": {"ttl": (int, float), "status": (int,)},
    "result.body": {
        "cut_after": (int,), "reset": (bool,), "corrupt": (bool,), "status": (int,), "retry_after": (int, str),
        **_DELAY,
    },
    "callback": {
        "lose": (bool,), "duplicate": (bool, int), "forge": (bool,), "reorder": (bool,), **_DELAY,
    },
    # By the name of the event (`kind`) and the id of the delivery (`subject`); a lost one counts as taken.
    "webhook": {
        "lose": (bool,), "duplicate": (bool, int), "forge": (bool,), "reorder": (bool,), **_DELAY,
    },
    "create.replay": {"other_id": (bool,)},
}  # fmt: skip

# Whom a rule means and how often it strikes.
_CHOICE: dict[str, tuple[type, ...]] = {
    "at": (str,), "route": (str,), "kind": (str,), "subject": (str,), "probability": (int, float),
    "every": (int,), "first": (int,), "count": (int,), "after": (int,),
}  # fmt: skip


class Fault(msgspec.Struct, frozen=True):
    """One strike: what its rule says shall happen. `number` counts the rule's strikes from 1."""

    rule: int
    point: str
    number: int
    says: Mapping[str, Any]

    def flag(self, name: str) -> bool:
        """A yes or no; absent is no."""
        return self.says.get(name) is True

    def count(self, name: str, default: int = 0) -> int:
        """A whole number; `true` is 1."""
        value = self.says.get(name, default)
        return int(value) if isinstance(value, int) else default

    def number_of(self, name: str, default: float) -> float:
        """A number."""
        value = self.says.get(name, default)
        return float(value) if isinstance(value, int | float) else default

    def text(self, name: str, default: str = "") -> str:
        """A text."""
        value = self.says.get(name, default)
        return value if isinstance(value, str) else default

    def delay_s(self, faults: Faults) -> float:
        """How long to wait, in seconds: `delay`, give or take `spread` of it."""
        delay = _seconds(self.says.get("delay", 0))
        spread = self.number_of("spread", 0.0)
        if not delay or not spread:
            return delay
        return delay * (1 + spread * (2 * faults.chance(self.rule, "spread", self.number) - 1))

    def retry_headers(self) -> dict[str, str]:
        """`Retry-After` when the rule names one."""
        value = self.says.get("retry_after")
        return {} if value is None else {"Retry-After": str(value)}


class _Rule(msgspec.Struct):
    number: int
    choice: Mapping[str, Any]
    says: Mapping[str, Any]
    matched: int = 0
    struck: int = 0


class Faults:
    """The rules, and how often each has matched and struck."""

    def __init__(self, rules: Iterable[Mapping[str, Any]] = (), *, seed: int = 0, path: str = "faults") -> None:
        self._seed = seed
        self._rules = [_read_rule(number, rule, path) for number, rule in enumerate(rules, start=1)]
        self._at: dict[str, list[_Rule]] = {}
        for rule in self._rules:
            self._at.setdefault(rule.choice["at"], []).append(rule)
        self.is_armed = bool(self._rules)

    @classmethod
    def load(cls, path: str | None, seed: int = 0) -> Faults:
        """Read a script: `[[fault]]` tables and an optional `seed`; none at all is a quiet one.

        Raises:
            ConfigError: no such file, not TOML, an unknown key, a value of the wrong type or range.
        """
        if path is None:
            return cls(seed=seed)
        try:
            document = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as exc:
            raise ConfigError(f"{path}: cannot be read: {exc.strerror}", path=path) from exc
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
            raise ConfigError(f"{path}: not TOML: {exc}", path=path) from exc
        for key in document.keys() - {"fault", "seed"}:
            raise _wrong(path, key, "is not known here; use `seed` or `[[fault]]`")
        rules = document.get("fault", [])
        if not isinstance(rules, list) or not all(isinstance(rule, dict) for rule in rules):
            raise _wrong(path, "fault", "must be an array of tables: `[[fault]]`")
        own_seed = document.get("seed", seed)
        if not isinstance(own_seed, int) or isinstance(own_seed, bool):
            raise _wrong(path, "seed", "must be a whole number")
        return cls(rules, seed=own_seed, path=path)

    def strike(self, point: str, *, route: str = "", kind: str = "", subject: str = "") -> Fault | None:
        """The fault that strikes here and now, of the first rule that does; None is peace."""
        rules = self._at.get(point)
        if rules is None:
            return None
        for rule in rules:
            if _means(rule.choice, {"route": route, "kind": kind, "subject": subject}):
                rule.matched += 1
                if self._is_due(rule):
                    rule.struck += 1
                    return Fault(rule.number, point, rule.struck, rule.says)
        return None

    def chance(self, *parts: str | int) -> float:
        """A number in [0, 1) that depends on the seed and `parts` alone."""
        text = "\x1f".join(map(str, ("fault", self._seed, *parts)))
        return (int.from_bytes(hashlib.sha256(text.encode()).digest()[:7]) >> 3) / (1 << 53)

    def tally(self) -> list[dict[str, Any]]:
        """Each rule with how often it matched and struck, for tests to assert that it did."""
        return [
            {
                "rule": rule.number, **rule.choice, **rule.says, "matched": rule.matched, "struck": rule.struck,
            }
            for rule in self._rules
        ]  # fmt: skip

    def _is_due(self, rule: _Rule) -> bool:
        choice = rule.choice
        turn = rule.matched - choice.get("after", 0)
        if turn <= 0 or rule.struck >= choice.get("count", rule.struck + 1):
            return False
        if "first" in choice:
            return bool(turn <= choice["first"])
        if "every" in choice:
            return bool(turn % choice["every"] == 0)
        if "probability" in choice:
            return self.chance(rule.number, rule.matched) < float(choice["probability"])
        return True


def _means(choice: Mapping[str, Any], found: Mapping[str, str]) -> bool:
    return all(
        fnmatchcase(value, choice[name]) if "*" in choice[name] else value == choice[name]
        for name, value in found.items()
        if name in choice
    )


def _read_rule(number: int, rule: Mapping[str, Any], path: str) -> _Rule:
    where = f"fault[{number}]"
    point = rule.get("at")
    if not isinstance(point, str) or point not in POINTS:
        raise _wrong(path, f"{where}.at", f"must be one of: {', '.join(POINTS)}")
    members = POINTS[point]
    for key, value in rule.items():
        expected = _CHOICE.get(key) or members.get(key)
        if expected is None:
            raise _wrong(path, f"{where}.{key}", f"is not known at `{point}`; use {', '.join((*_CHOICE, *members))}")
        if not isinstance(value, expected) or (isinstance(value, bool) and bool not in expected):
            raise _wrong(path, f"{where}.{key}", f"must be {' or '.join(kind.__name__ for kind in expected)}")
    choice = {key: value for key, value in rule.items() if key in _CHOICE}
    says = {key: value for key, value in rule.items() if key not in _CHOICE}
    _check_ranges(path, where, {**choice, **says})
    return _Rule(number, choice, says)


def _check_ranges(path: str, where: str, values: Mapping[str, Any]) -> None:
    chosen = [key for key in ("probability", "every", "first") if key in values]
    if len(chosen) > 1:
        raise _wrong(path, f"{where}.{chosen[1]}", f"contradicts `{chosen[0]}`; keep one")
    if not 0 <= values.get("probability", 0) <= 1:
        raise _wrong(path, f"{where}.probability", "must be from 0 to 1")
    for key in ("every", "first", "count"):
        if values.get(key, 1) < 1:
            raise _wrong(path, f"{where}.{key}", "must be 1 or more")
    if values.get("after", 0) < 0:
        raise _wrong(path, f"{where}.after", "must be 0 or more")
    if isinstance(status := values.get("status"), int) and not 200 <= status <= 599:
        raise _wrong(path, f"{where}.status", "must be from 200 to 599")
    try:
        _seconds(values.get("delay", 0))
    except ValueError:
        raise _wrong(path, f"{where}.delay", 'must be seconds or a duration such as "200ms"') from None


def _seconds(value: float | str) -> float:
    if not isinstance(value, str):
        if value < 0:
            raise ValueError(value)
        return float(value)
    match = _DURATION.fullmatch(value)
    if match is None:
        raise ValueError(value)
    return float(match[1]) * _UNIT_S[match[2]]


def _wrong(path: str, key: str, why: str) -> ConfigError:
    return ConfigError(f"{path}: {key} {why}", path=path, key=key)
