"""Ids, seeded choices, secrets and transactions of the emulator's memory."""

import pytest

from engine.clock import ManualClock
from engine.emulator.state import Options, State


@pytest.fixture
def state():
    with_state = State.open(Options(seed=3), clock=ManualClock())
    yield with_state
    with_state.close()


def test_ids_sort_in_the_order_they_were_made(state):
    """Within one millisecond and across, ids are unique and rise."""
    made = []
    for _ in range(5):
        made += [state.new_id() for _ in range(200)]
        state.clock.advance(0.001)

    assert made == sorted(set(made))
    assert all(len(text) == 26 for text in made)
    assert state.new_id("app_").startswith("app_")


def test_ids_do_not_repeat_after_a_restart(tmp_path):
    """The same seed and the same moment give other ids the next time the file is opened."""
    seen = set()
    for _ in range(3):
        state = State.open(Options(state_path=str(tmp_path / "s.db")), clock=ManualClock())
        seen.add(state.new_id())
        state.close()

    assert len(seen) == 3


def test_choices_depend_on_seed_and_parts_alone(state):
    """The same question has the same answer in every run, and parts do not run together."""
    again = State.open(Options(seed=3), clock=ManualClock(now_ns=1))
    other = State.open(Options(seed=4), clock=ManualClock())

    assert state.random("job", 1) == again.random("job", 1)
    assert state.random("job", 1) != other.random("job", 1)
    assert state.random("a", "bc") != state.random("ab", "c")
    assert all(0 <= state.random(number) < 1 for number in range(1000))
    again.close()
    other.close()


def test_a_secret_is_made_once(tmp_path):
    """It is 32 bytes, its own for each name, and there again after a restart."""
    path = str(tmp_path / "s.db")
    state = State.open(Options(state_path=path), clock=ManualClock())
    one, two = state.secret("urls"), state.secret("callbacks")
    state.close()
    again = State.open(Options(state_path=path), clock=ManualClock())

    assert len(one) == len(two) == 32
    assert one != two
    assert again.secret("urls") == one
    again.close()


def test_a_transaction_is_all_or_nothing(state):
    """An error takes back every statement, those of an inner block included."""
    state.apply_schema("CREATE TABLE things (name TEXT)")

    def count():
        return state.db.execute("SELECT count(*) FROM things").fetchone()[0]

    with pytest.raises(RuntimeError), state.transaction() as db:
        db.execute("INSERT INTO things VALUES ('a')")
        with state.transaction():
            db.execute("INSERT INTO things VALUES ('b')")
        raise RuntimeError
    assert count() == 0

    with state.transaction() as db:
        db.execute("INSERT INTO things VALUES ('c')")
    assert count() == 1


def test_times_are_written_as_the_contract_does(state):
    """UTC, whole seconds, Z."""
    assert state.now_text() == "2026-05-08T12:00:00Z"
    assert state.now_text(1_999_999_999) == "1970-01-01T00:00:01Z"
