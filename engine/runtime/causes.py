"""What made a group of tasks fail: our own errors, taken out of exception groups."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from engine.errors import EngineError, RunFailed


def causes_of(failures: BaseExceptionGroup[BaseException]) -> Iterator[EngineError]:
    """Our own errors inside an exception group, in order, however deep they lie."""
    for failure in failures.exceptions:
        if isinstance(failure, BaseExceptionGroup):
            yield from causes_of(failure)
        elif isinstance(failure, EngineError):
            yield failure


@contextmanager
def failing_as(pipeline: str) -> Iterator[None]:
    """Whatever of ours fails in the block is raised as the failure of this pipeline's run.

    Raises:
        RunFailed: with every cause.
    """
    try:
        yield
    except BaseExceptionGroup as failures:
        causes = list(causes_of(failures))
        if not causes:
            raise
        raise RunFailed(causes[0].message, pipeline=pipeline, causes=causes) from failures
