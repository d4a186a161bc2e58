"""Shaping: the transforms that change which members an object has: select, rename, set.

Each makes new objects and leaves the given ones alone, so that a batch can be transformed again.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

from engine.errors import PartialFailure

Value = dict[str, Any]


class Select:
    """Keeps only these members, in this order; one that a record lacks stays absent."""

    def __init__(self, fields: tuple[str, ...]) -> None:
        self._fields = fields

    def apply(self, values: list[Value]) -> list[Value | None]:
        """Never fails, never filters."""
        fields = self._fields
        return [{name: value[name] for name in fields if name in value} for value in values]


class Rename:
    """Gives members new names, `{old: new}`, in place; all at once, so two can swap."""

    def __init__(self, fields: Mapping[str, str]) -> None:
        self._new_of = dict(fields)

    def apply(self, values: list[Value]) -> list[Value | None]:
        """Raises PartialFailure for records that have another member under a new name already."""
        new_of = self._new_of
        results: list[Value | None] = []
        failures: dict[int, str] = {}
        for index, value in enumerate(values):
            renamed = {new_of.get(name, name): member for name, member in value.items()}
            if len(renamed) != len(value):
                taken = sorted(new for old, new in new_of.items() if old in value and new in value)
                failures[index] = f"rename: the record has a member `{taken[0]}` already"
            results.append(renamed)
        if failures:
            raise PartialFailure(f"rename failed for {len(failures)} records", failures=failures)
        return results


class Set:
    """Gives members constant values, over whatever they had."""

    def __init__(self, constants: Mapping[str, Any]) -> None:
        self._constants = dict(constants)
        nested = any(isinstance(constant, dict | list) for constant in constants.values())
        # A constant that can be changed must not be shared by all records.
        self._fresh: Callable[[Value], Value] = copy.deepcopy if nested else dict

    def apply(self, values: list[Value]) -> list[Value | None]:
        """Never fails, never filters."""
        return [value | self._fresh(self._constants) for value in values]
