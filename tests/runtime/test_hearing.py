"""Whether a run listens for callbacks, and whether polling goes by them, as the contract profile answers it."""

import pytest

from engine.contract.profile import Profile
from engine.jobs.reliance import is_told_of_all
from engine.runtime.hearing import is_called_back


@pytest.mark.parametrize(
    ("platform", "calls_back", "expected"),
    [("sandbox", True, True), ("sandbox", False, False), ("live", False, True), ("emulator", False, True)],
)
def test_only_a_sandbox_may_be_silent(platform, calls_back, expected) -> None:
    """Q56 is about the sandbox alone."""
    assert is_called_back(platform, Profile(sandbox_callbacks=calls_back)) is expected


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [(("succeeded", "failed", "cancelled"), True), (("succeeded",), False), ((), False)],
)
def test_silence_says_something_only_where_every_end_is_told_of(statuses, expected) -> None:
    """Q42: a failure that nobody tells of has to be found by polling."""
    assert is_told_of_all(statuses) is expected
