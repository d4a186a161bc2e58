"""What made a group of tasks fail: our own errors, taken out of exception groups."""

from __future__ import annotations

from collections.abc import Iterator

from engine.errors import EngineError


def causes_of(failures: BaseExceptionGroup[BaseException]) -> Iterator[EngineError]:
    """Our own errors inside an exception group, in order, however deep they lie."""
    for failure in failures.exceptions:
        if isinstance(failure, BaseExceptionGroup):
            yield from causes_of(failure)
        elif isinstance(failure, EngineError):
            yield failure
