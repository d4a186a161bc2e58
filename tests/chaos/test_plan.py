"""The plan of rounds: the same seed draws the same, and nothing that must be tried is left to chance."""

from __future__ import annotations

from itertools import islice

from engine.chaos import mischief
from engine.chaos.plan import Place, Wishes, rounds
from engine.failpoints import read

_KINDS = ("import.bulk", "intelligence.enrich.bulk", "export.bulk")
# Files, objects, and a table.
_STEPS = (
    tuple(f"{file}:{step}" for file in ("sink", "manifest") for step in ("fsync", "rename", "dirsync")),
    ("sink:upload", "manifest:upload"),
    ("sink:commit",),
)


def _wishes(seed: int = 1, **changed: object) -> Wishes:
    members = {
        "seed": seed,
        "kinds": _KINDS,
        "steps": _STEPS,
        "seconds": (2.0, 2.5, 3.0),
        "mischief": mischief.ALL,
        **changed,
    }
    return Wishes(**members)


def test_the_same_seed_makes_the_same_rounds() -> None:
    """Forty rounds drawn twice are equal; those of another seed are not."""
    first = list(islice(rounds(_wishes()), 40))
    assert first == list(islice(rounds(_wishes()), 40))
    assert first != list(islice(rounds(_wishes(seed=2)), 40))


def test_every_place_is_tried_on_both_sides_in_every_pipeline() -> None:
    """Before and after each state of a job's life and each step of what rows land in, without mischief beside it."""
    for pipeline in range(3):
        tried = {
            kill.failpoint.text
            for planned in islice(rounds(_wishes()), 30)
            if not planned.mischief
            for kill in planned.stages[pipeline].kills
            if isinstance(kill, Place) and kill.failpoint.n == 1
        }
        states = ("planned", "submitting", "submitted", "succeeded", "committed", "ended")
        places = [*(f"ledger:{s}" for s in states), *_STEPS[pipeline]]
        assert {f"{place}:{side}:1" for place in places for side in ("before", "after")} == tried


def test_every_mischief_has_its_turn() -> None:
    """The first deck holds each kind once, then come pairs."""
    drawn = [planned.mischief for planned in islice(rounds(_wishes()), 60) if planned.mischief]
    count = len(mischief.ALL)
    assert sorted(m.name for alone in drawn[:count] for m in alone) == sorted(m.name for m in mischief.ALL)
    assert any(len(pair) == 2 for pair in drawn[count:])


def test_rows_die_in_the_last_pipeline_of_a_round_only() -> None:
    """Where rows may end as dead letters the chain ends, and the earlier pipelines are left alone."""
    mixed = list(islice(rounds(_wishes()), 200))
    deadly = [planned for planned in mixed if any(m.is_deadly for m in planned.mischief)]
    assert {len(planned.stages) for planned in deadly} == {1, 2, 3}
    for planned in mixed:
        earlier, last = planned.stages[:-1], planned.stages[-1]
        assert last.may_die == (planned in deadly)
        assert last.kills
        assert not any(stage.may_die or (last.may_die and stage.kills) for stage in earlier)


def test_instants_lie_inside_an_undisturbed_run() -> None:
    """No kill is planned for a time when the process would have ended anyway."""
    for planned in islice(rounds(_wishes()), 60):
        for stage in planned.stages:
            for kill in stage.kills:
                if isinstance(kill, Place):
                    assert read(kill.failpoint.text) == kill.failpoint
                else:
                    assert 0 < kill.after_s <= (2.0, 2.5, 3.0)[stage.pipeline]
