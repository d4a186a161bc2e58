"""Callbacks of one run: a receiver in front, the watcher behind, and the URL that leads from the platform to both.

It connects them and decides nothing about either; a pipeline without `[callback]` has no receiver at all.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from engine.contract.exchange import Trace
from engine.contract.profile import PROFILE, Profile
from engine.errors import PlanError
from engine.jobs.callback import CALLBACK_PATH, Receiver, ReceiverDoor
from engine.jobs.reliance import is_told_of_all
from engine.pipeline.callback import host_and_port, unmet
from engine.pipeline.spec import CallbackSpec
from engine.runtime.run import Stages
from engine.runtime.tools import Tools
from engine.settings import Secret
from engine.store.notices import Notice
from engine.store.rows import RunRow

# What the emulator signs with for the app it registers itself, so that a pipeline needs no setting to be called.
_EMULATOR_SECRET = "emulator-callback-secret"


class Hearing:
    """A receiver that listens for one run; `url` is what the platform is told to call, `said` how a human reads it."""

    def __init__(self, callback: CallbackSpec, receiver: Receiver) -> None:
        self._callback = callback
        self._receiver = receiver
        self.url = callback.public_url or receiver.url
        self.said = f"; callbacks to {self.url}"

    def connect(self, stages: Stages, run: RunRow) -> None:
        """From now on jobs are submitted with the callback URL, and callbacks reach the watcher.

        What was stored before, also by a process that died before it could ask, is told first.
        """
        watcher = stages.watcher

        def tell(notice: Notice) -> None:
            watcher.nudge(notice.remote_id, trace_id=notice.trace_id)

        if is_told_of_all(PROFILE.callback_statuses):
            watcher.expect_callbacks(patience_s=self._callback.fallback.no_callback_for)
        for notice in self._receiver.earlier():
            tell(notice)
        self._receiver.tell = tell
        self._receiver.trace = Trace(run.trace_id, run.span_id)
        stages.submitter.callback_url = self.url


@asynccontextmanager
async def open_hearing(
    callback: CallbackSpec | None, *, profile: str, tools: Tools, spec_path: str
) -> AsyncIterator[Hearing | None]:
    """Listen for callbacks while the block runs, where the pipeline asks for it.

    Raises:
        PlanError: the profile needs more than `[callback]` says. ConfigError: the address cannot be listened on.
    """
    if callback is None or not is_called_back(profile):
        yield None
        return
    if lack := unmet(callback, profile=profile, path=spec_path):
        raise PlanError([lack])
    secrets = callback.secrets or (Secret(_EMULATOR_SECRET),)
    async with Receiver(
        secrets, tools.ledger.notices, door=_door_of(callback), clock=tools.clock, observer=tools.observer
    ) as receiver:
        yield Hearing(callback, receiver)


def is_called_back(platform: str, profile: Profile = PROFILE) -> bool:
    """Whether the platform that the settings choose calls back at all; a sandbox that does not (Q56) is polled."""
    return platform != "sandbox" or profile.sandbox_callbacks


def _door_of(callback: CallbackSpec) -> ReceiverDoor:
    """A proxy in front may keep the public URL's path or rewrite it, so both ways are open."""
    host, port = host_and_port(callback.listen)
    public = urlsplit(callback.public_url or "").path or "/" if callback.public_url else CALLBACK_PATH
    paths = (CALLBACK_PATH,) if public == CALLBACK_PATH else (CALLBACK_PATH, public)
    return ReceiverDoor(host=host, port=port, paths=paths, canonical=callback.canonical)
