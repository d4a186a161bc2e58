"""Blocking work of a user's input and code on threads that the process may leave behind.

A thread cannot be stopped from outside. Those of an executor are joined when the interpreter ends, so one that hangs
would hang the process; these are daemons, one per call, and a call is never per record.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")


def on_thread(function: Callable[..., T], *args: object, name: str) -> asyncio.Future[T]:
    """Call the function on a thread of its own; the future has its result, or what it raised."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is None:
            future.set_result(result)  # type: ignore[arg-type]  # None is then what T allows
        else:
            future.set_exception(error)

    def work() -> None:
        result: T | None = None
        error: BaseException | None = None
        try:
            result = function(*args)
        except BaseException as exc:  # noqa: BLE001 - it is raised where the future is awaited
            error = exc
        # The loop may be gone: the process is ending, and nobody waits any more.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=work, name=name, daemon=True).start()
    return future
