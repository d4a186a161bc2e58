"""Blocking work of a user's input and code, on threads that the process may leave behind.

A thread cannot be stopped from outside. Those of an executor are joined when the interpreter ends, so one that hangs
would hang the process; these are daemons. Each lives as long as its owner: allocators keep memory by thread.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from engine.clock import hold_time

T = TypeVar("T")


class Hand:
    """A thread that does one call after the other; started with the first."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def call(self, function: Callable[..., T], *args: object) -> asyncio.Future[T]:
        """Call the function there; the future has its result, or what it raised."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        hold_time(future)

        def work() -> None:
            result: Any = None
            error: BaseException | None = None
            try:
                result = function(*args)
            except BaseException as exc:  # noqa: BLE001 - it is raised where the future is awaited
                error = exc
            # The loop may be gone: the process is ending, and nobody waits any more.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(_settle, future, result, error)

        if self._thread is None:
            self._thread = threading.Thread(target=self._run, args=(self._calls,), name=self._name, daemon=True)
            self._thread.start()
        self._calls.put(work)
        return future

    def __del__(self) -> None:
        # The thread holds the queue alone, so that an owner who is forgotten ends it.
        self._calls.put(_end)

    @staticmethod
    def _run(calls: queue.SimpleQueue[Callable[[], None]]) -> None:
        while (call := calls.get()) is not _end:
            call()
            del call


def _end() -> None:
    """Stands in the queue for the end."""


def _settle(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
