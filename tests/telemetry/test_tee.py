"""Several listeners hear every fact, and one that fails is alone with it."""

from engine.events import Event, Waited, Warned
from engine.telemetry.tee import Tee

FACT = Waited("source", 0.1)


class Broken:
    def __init__(self, patience: int = 0) -> None:
        self.heard = 0
        self.patience = patience

    def notice(self, event: Event) -> None:
        self.heard += 1
        if self.heard > self.patience:
            raise RuntimeError("the secret is hunter2")


def test_everyone_hears_every_fact(recorder) -> None:
    """Each observer gets each fact, in order."""
    other = type(recorder)()
    tee = Tee([recorder, other])
    tee.notice(FACT)

    assert recorder.events == other.events == [FACT]


def test_one_that_raises_is_dropped_with_one_warning(recorder) -> None:
    """An observer that raises hears nothing more; the others get one warning without the exception's words."""
    broken = Broken()
    tee = Tee([broken, recorder])
    tee.notice(FACT)
    tee.notice(FACT)

    assert broken.heard == 1
    assert [type(event) for event in recorder.events] == [Waited, Warned, Waited]
    assert recorder.warned[0].message == "Broken raised RuntimeError and is told nothing more"


def test_one_that_fails_at_the_warning_goes_too(recorder) -> None:
    """If hearing of another's failure is what breaks an observer, it is dropped as well, and that ends."""
    tee = Tee([Broken(), Broken(patience=1), Broken(), recorder])
    tee.notice(FACT)
    tee.notice(FACT)

    assert recorder.events.count(FACT) == 2
    assert len(recorder.warned) == 3


def test_a_tee_of_nobody_is_silent() -> None:
    """Without observers a fact goes nowhere, also when the last one has just been dropped."""
    Tee().notice(FACT)
    Tee([Broken()]).notice(FACT)
