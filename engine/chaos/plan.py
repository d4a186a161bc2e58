"""Plan: which kills and which mischief each round has, drawn from a seed. Pure: no clock, no process, no file.

A round is the chain of pipelines, run once in a fresh scratch directory, each pipeline killed several times and
resumed. Kills come in two kinds: at a place in the code, every one of them before the first is drawn twice, and at
an instant. The same seed and the same pipelines make the same rounds.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence

import msgspec

from engine.chaos.mischief import Mischief
from engine.failpoints import AFTER, BEFORE, Failpoint

# The states every job passes, in the order of its life; mischief adds those it leads to.
_LEDGER = ("planned", "submitting", "submitted", "succeeded")
# Many small jobs and parts have states in between that a few large ones do not.
_SMALL = {"job.batch.rows": "25", "sink.rotate.rows": "150"}
_LATEST_PASS = 4


class Instant(msgspec.Struct, frozen=True, tag="instant"):
    """Killed so many seconds after its start."""

    after_s: float

    @property
    def name(self) -> str:
        """Its row in the table."""
        return "kill -9 at a random instant"


class Place(msgspec.Struct, frozen=True, tag="place"):
    """Killed by a failpoint."""

    failpoint: Failpoint

    @property
    def name(self) -> str:
        """Its row in the table."""
        return f"kill -9 {self.failpoint.side} {self.failpoint.place}"


Kill = Instant | Place


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """One pipeline of a round, by its position in the chain, and the kills it gets one after the other.

    `may_die`: the round's mischief makes dead letters of some of its rows.
    """

    pipeline: int
    kills: tuple[Kill, ...]
    may_die: bool = False


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """One run of the chain. `overrides` hold for all its pipelines; `seed` is the emulator's."""

    number: int
    seed: int
    mischief: tuple[Mischief, ...]
    overrides: dict[str, str]
    stages: tuple[Stage, ...]


class Wishes(msgspec.Struct, frozen=True, kw_only=True):
    """What rounds are drawn from.

    Of each pipeline its job kind, the places where its rows become durable (`sink:…`, then `manifest:…`), and how long
    it takes undisturbed, start included.
    """

    seed: int
    kinds: tuple[str, ...]
    steps: tuple[tuple[str, ...], ...]
    seconds: tuple[float, ...]
    mischief: tuple[Mischief, ...]
    kills_per_stage: int = 5


def rounds(wishes: Wishes) -> Iterator[Round]:
    """Rounds without end: every place in the code first, with no mischief beside it; then everything mixed."""
    size = wishes.kills_per_stage
    each = [_pieces([*_in_order(_places((), steps), 1)], size) for steps in wishes.steps]
    # A pipeline with fewer places than another goes through its own once more.
    calm = [tuple(pieces[turn % len(pieces)] for pieces in each) for turn in range(max(map(len, each)))]
    deck = _deck(wishes)
    for number in itertools.count(1):
        seed = wishes.seed * 100_000 + number
        rng = random.Random(f"{wishes.seed}/{number}")
        # One calm round, two with mischief, and so on: no kind of trouble waits for the end of another.
        if number % 3 == 1 and calm:
            stages = tuple(Stage(pipeline=at, kills=kills) for at, kills in enumerate(calm.pop(0)))
            yield Round(number=number, seed=seed, mischief=(), overrides={}, stages=stages)
        else:
            yield _mixed(wishes, number, seed, rng, next(deck) if wishes.mischief else ())


def _deck(wishes: Wishes) -> Iterator[tuple[Mischief, ...]]:
    """Every kind of mischief alone, in an order of the seed; then pairs of them."""
    rng = random.Random(f"{wishes.seed}/deck")
    single = list(wishes.mischief)
    rng.shuffle(single)
    yield from ((mischief,) for mischief in single)
    while single:
        pair = rng.sample(single, min(2, len(single)))
        # Two disks would need two budgets of space, and two deadly ones would hide each other.
        yield tuple(pair[:1] if _clash(pair) else pair)


def _clash(pair: Sequence[Mischief]) -> bool:
    return any(sum(wanted) > 1 for wanted in zip(*((bool(m.disk), m.is_deadly) for m in pair), strict=True))


def _mixed(wishes: Wishes, number: int, seed: int, rng: random.Random, mischief: tuple[Mischief, ...]) -> Round:
    count = len(wishes.seconds)
    # Rows that die in one pipeline are missing in the next: the chain ends with the one that is meant.
    is_deadly = any(m.is_deadly for m in mischief)
    last = wishes.kinds.index(rng.choice(wishes.kinds)) if is_deadly else count - 1
    overrides = dict(_SMALL) if rng.random() < 0.6 else {}
    states = tuple(state for m in mischief for state in m.states)
    for m in mischief:
        overrides.update(m.overrides)
    kills = [() if is_deadly and at < last else _kills(wishes, at, rng, states) for at in range(last + 1)]
    stages = tuple(Stage(pipeline=at, kills=drawn, may_die=is_deadly and at == last) for at, drawn in enumerate(kills))
    return Round(number=number, seed=seed, mischief=mischief, overrides=overrides, stages=stages)


def _kills(wishes: Wishes, at: int, rng: random.Random, states: tuple[str, ...]) -> tuple[Kill, ...]:
    kills: list[Kill] = []
    choices = _places(states, wishes.steps[at])
    # What this mischief leads to is what its rounds are for.
    own = [*_in_order([f"ledger:{state}" for state in dict.fromkeys(states)], 1)]
    kills += own[: wishes.kills_per_stage - 1]
    while len(kills) < wishes.kills_per_stage:
        if rng.random() < 0.3:
            place = rng.choice(choices)
            kills.append(Place(Failpoint(place, rng.choice((BEFORE, AFTER)), rng.randint(1, _LATEST_PASS))))
        else:
            kills.append(Instant(round(rng.uniform(0.15, 1.0) * wishes.seconds[at], 4)))
    return tuple(kills)


def _places(states: Sequence[str], steps: Sequence[str]) -> list[str]:
    names = [*_LEDGER, *dict.fromkeys(states)]
    before = [step for step in steps if step.startswith("sink:")]
    after = [step for step in steps if step not in before]
    return [*(f"ledger:{state}" for state in names), *before, "ledger:committed", *after, "ledger:ended"]


def _pieces(places: Sequence[Place], size: int) -> list[tuple[Kill, ...]]:
    return [tuple(places[start : start + size]) for start in range(0, len(places), size)]


def _in_order(places: Sequence[str], n: int) -> Iterator[Place]:
    """Both sides of each place, in the order a run passes them, so that one run can die at one after the other."""
    yield from (Place(Failpoint(place, side, n)) for place in places for side in (BEFORE, AFTER))
