"""Reading row results: every row in a bucket, or the job does not count."""

from __future__ import annotations

import msgspec
import pytest

from engine.errors import BrokenAnswer, PartialFailure, Unbalanced
from engine.jobs.interpret import Interpreter, Reading, difference, disagreement


class _Row(msgspec.Struct):
    id: str
    score: int


def _reading(**members: object) -> Reading:
    plain = {
        "match": "id",
        "status": "status",
        "accepted": frozenset(["ok"]),
        "rejected": frozenset(["bad"]),
        "row": None,
        "encode": lambda rows: b"".join(msgspec.json.encode(row) + b"\n" for row in rows),
        "takes_raw": True,
    }
    return Reading(**{**plain, **members})


def test_accepted_rows_pass_as_the_bytes_they_came_in() -> None:
    """A window of accepted rows is joined into lines without being encoded again."""
    taken = Interpreter(_reading(), rows_max=9).window(b'[{"id":"a","status":"ok", "x":1.0},{"id":7,"status":"ok"}]')
    assert taken.chunk == b'{"id":"a","status":"ok", "x":1.0}\n{"id":7,"status":"ok"}\n'
    assert (taken.accepted, taken.ended) == (2, [])


def test_a_row_with_a_line_break_inside_stays_one_line() -> None:
    """Pretty-printed rows are encoded again, because their line breaks would tear the output."""
    taken = Interpreter(_reading(), rows_max=9).window(b'[{"id":"a",\n"status":"ok"}]')
    assert taken.chunk == b'{"id":"a","status":"ok"}\n'


def test_rejected_rows_carry_the_platform_s_reason() -> None:
    """A rejected row is not landed; its reason is the platform's own."""
    window = b'[{"id":"a","status":"bad","error":"unknown"},{"id":"b","status":"ok"}]'
    taken = Interpreter(_reading(), rows_max=9).window(window)
    assert taken.accepted == 1
    assert [(row.key, row.bucket, row.reason) for row in taken.ended] == [("a", "rejected", "unknown")]


def test_a_status_in_no_bucket_does_not_balance() -> None:
    """A row that ended in a way nobody listed is an imbalance, not a guess."""
    with pytest.raises(Unbalanced, match="in no bucket"):
        Interpreter(_reading(), rows_max=9).window(b'[{"id":"a","status":"odd"}]')


def test_a_row_without_its_match_member_does_not_balance() -> None:
    """Such a row cannot be matched to what was sent."""
    with pytest.raises(Unbalanced, match="cannot be matched"):
        Interpreter(_reading(), rows_max=9).window(b'[{"status":"ok"}]')


def test_more_rows_than_were_sent_are_refused_at_once() -> None:
    """An endless result is not read to its end."""
    with pytest.raises(Unbalanced, match="more than the 1 rows"):
        Interpreter(_reading(), rows_max=1).window(b'[{"id":"a","status":"ok"},{"id":"b","status":"ok"}]')


def test_a_row_of_the_wrong_type_is_dead_and_the_others_count() -> None:
    """One bad row costs itself; its reason names the path."""
    interpreter = Interpreter(_reading(row=_Row), rows_max=9)
    taken = interpreter.window(b'[{"id":"a","status":"ok","score":1},{"id":"b","status":"ok","score":"x"}]')
    assert taken.accepted == 1
    assert [(row.key, row.bucket, row.code) for row in taken.ended] == [("b", "dead", "record.type")]
    assert "$[0].score" in taken.ended[0].reason
    assert interpreter.keys == ["a", "b"]


def test_a_window_that_is_no_json_is_a_broken_answer() -> None:
    """Damage is never taken for data."""
    with pytest.raises(BrokenAnswer):
        Interpreter(_reading(), rows_max=9).window(b'[{"id":"a","status":"ok"},{]')


@pytest.mark.parametrize("member", ["more", "id"])
def test_a_wrong_byte_is_a_broken_answer_wherever_it_stands(member: str) -> None:
    """A byte that is no UTF-8 never lands in a sink, not even in a member that is passed on unread."""
    text = b'[{"id":"a","status":"ok","more":{"at":"b"}}]'
    wrong = text.replace(b'"b"' if member == "more" else b'"a"', b'"\xe2"')
    with pytest.raises(BrokenAnswer, match="not UTF-8"):
        Interpreter(_reading(), rows_max=9).window(wrong)


@pytest.mark.parametrize(
    ("summary", "said"),
    [
        ({"received": 3, "ok": 2, "bad": 1}, None),
        ({"requested": 4}, "4 requested"),
        ({"received": 3, "ok": 3}, "3 ok"),
        ({"received": 3, "failed": 1}, "1 failed"),
        ({"note": "text"}, None),
    ],
)
def test_the_platform_s_counts_are_compared_with_ours(summary: dict[str, object], said: str | None) -> None:
    """Totals and counts per status must be the ones we saw."""
    interpreter = Interpreter(_reading(), rows_max=9)
    interpreter.window(b'[{"id":"a","status":"ok"},{"id":"b","status":"ok"},{"id":"c","status":"bad"}]')
    found = disagreement(summary, interpreter.statuses, 3)
    assert (found is None) if said is None else (found is not None and said in found)


def test_a_difference_names_the_first_row_on_each_side() -> None:
    """Dropped and doubled rows are counted and one of each is named."""
    said = difference(["a", "b", "c"], ["a", "a", "c"])
    assert "1 missing" in said
    assert "'b'" in said
    assert "1 too many" in said
    assert "'a'" in said


def test_a_row_the_sink_cannot_hold_is_dead_and_the_others_count() -> None:
    """A value that no column of the sink can take costs its row, with the sink's reason."""

    def encode(rows: list[dict[str, object]]) -> bytes:
        if bad := {n: "too large" for n, row in enumerate(rows) if row["id"] == "b"}:
            raise PartialFailure("no", failures=bad)
        return b"".join(msgspec.json.encode(row["id"]) for row in rows)

    taken = Interpreter(_reading(encode=encode, takes_raw=False), rows_max=9).window(
        b'[{"id":"a","status":"ok"},{"id":"b","status":"ok"},{"id":"c","status":"ok"}]'
    )
    assert (taken.chunk, taken.accepted) == (b'"a""c"', 2)
    assert [(row.key, row.stage, row.reason) for row in taken.ended] == [("b", "sink", "too large")]
