"""Python transform: calls a function of the user's over a batch, and keeps its failures apart.

The function gets a list of objects and gives a list of the same length, with None for each record it
filters. Where it raises, it is asked again record by record, so that one poisonous record is dead-lettered
alone. How long a call has been going on can be seen from outside: a function that hangs cannot be stopped.
"""

from __future__ import annotations

import importlib
import inspect
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine.errors import ConfigError, PartialFailure

TIMEOUT_S = 60.0
_REASON_CHARS = 500

Function = Callable[[list[dict[str, Any]]], Any]


class _FannedOut(Exception):
    """One record became several."""


class Python:
    """Applies `function`; `call` is its name in messages.

    `running` says, by thread, since when (monotonic seconds) a call over a batch has been going on.
    """

    def __init__(self, call: str, function: Function, *, timeout_s: float = TIMEOUT_S) -> None:
        self.call = call
        self.timeout_s = timeout_s
        self.running: dict[int, float] = {}
        self._function = function

    def apply(self, values: list[dict[str, Any]]) -> list[dict[str, Any] | None]:
        """Call the function once, or once per record after it raised.

        Raises:
            PartialFailure: it raises for some records even when they come alone, or makes several of one.
            ConfigError: it gives something else than a list of as many objects.
        """
        thread = threading.get_ident()
        self.running[thread] = time.monotonic()
        try:
            return self._ask(values)
        except ConfigError:
            raise
        except Exception:  # noqa: BLE001 - the user's function may raise anything
            return self._one_by_one(values)
        finally:
            self.running.pop(thread, None)

    def _one_by_one(self, values: list[dict[str, Any]]) -> list[dict[str, Any] | None]:
        results: list[dict[str, Any] | None] = []
        failures: dict[int, str] = {}
        for index, value in enumerate(values):
            try:
                results += self._ask([value])
            except ConfigError:
                raise
            except _FannedOut as exc:
                failures[index] = f"{self.call}: {exc}"
            except Exception as exc:  # noqa: BLE001 - as above
                failures[index] = f"{self.call}: {type(exc).__name__}: {exc}"[:_REASON_CHARS]
        if failures:
            raise PartialFailure(f"{self.call} failed for {len(failures)} records", failures=failures)
        return results

    def _ask(self, values: list[dict[str, Any]]) -> list[dict[str, Any] | None]:
        # Copies, because a function that changes its records and then raises is asked again.
        results = self._function([dict(value) for value in values])
        if isinstance(results, list) and len(results) > len(values):
            # Some record was made into several. Which one shows when each comes alone; the others go on.
            raise _FannedOut(f"it made {len(results)} records of {len(values)}; one or none may come of each")
        if not isinstance(results, list) or len(results) != len(values):
            got = f"a list of {len(results)}" if isinstance(results, list) else type(results).__name__
            raise self._misbehaved(f"it gave {got} for {len(values)} records")
        for result in results:
            if result is not None and not isinstance(result, dict):
                raise self._misbehaved(f"it gave a {type(result).__name__} among its results")
        return results

    def _misbehaved(self, what: str) -> ConfigError:
        return ConfigError(
            f"the transform `{self.call}` breaks its promise: {what}",
            hint="return a list as long as the one given: a dict per record, None to filter it",
            call=self.call,
        )


def resolve(call: str, base: Path, *, what: str = "transform") -> Callable[..., Any]:
    """Import `module:function`, from the installed modules or from beside the pipeline file (`base`).

    `base` stays on the import path, after everything installed, for what the module imports later.

    Raises:
        ConfigError: no such module or function, it fails while being imported, or it is async.
    """
    module_name, _, name = call.partition(":")
    if not module_name or not name:
        raise ConfigError(f"`{call}` does not name a function", hint='write call = "module:function"')
    folder = str(base.resolve())
    if folder not in sys.path:
        sys.path.append(folder)
    try:
        function = importlib.import_module(module_name)
        for part in name.split("."):
            function = getattr(function, part)
    except Exception as exc:
        raise ConfigError(
            f"the {what} `{call}` cannot be imported: {type(exc).__name__}: {exc}",
            hint=f"modules are looked for among the installed ones and in {folder}",
            call=call,
        ) from exc
    if not callable(function) or inspect.iscoroutinefunction(function):
        raise ConfigError(f"the {what} `{call}` must be a plain function", call=call)
    return function
