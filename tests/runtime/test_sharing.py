"""Shares decided: what each takes of the account and of a limit, and how many reports become one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.cli.output import Paint
from engine.cli.summary import report_lines
from engine.components.catalog import open_sink
from engine.components.sinks.joint import write_joint
from engine.errors import ConfigError, OutputError
from engine.pipeline.spec import CallbackSpec, DeadLettersSpec, ExpectSpec, JobSpec, PipelineSpec, SinkSpec, SourceSpec
from engine.record import Share
from engine.runtime.report import Report
from engine.runtime.sharing import Ending, join, limit_of, refuse_indivisible, settings_of, spec_of, unjudged
from engine.settings import EmulatorSettings, Limits, Platform, Settings
from engine.store.shares import Division, divide, find_division, share_of_tag, shares_begun
from tests.runtime.conftest import Rig

_SPEC = PipelineSpec(
    version=1,
    name="p",
    source=SourceSpec(type="ndjson", key="id", paths=("in",)),
    sink=SinkSpec(type="ndjson", path="out"),
    job=JobSpec(kind="import.bulk", jobs_in_flight=9),
)


def _report(outcome: str = "done", **counts: Any) -> Report:
    zero = dict.fromkeys(("read", "accepted", "rejected", "dead", "filtered", "open", "jobs", "requests", "parts"), 0)
    return Report(run_id="r", pipeline="p", outcome=outcome, seconds=1.0, epoch=1, **{**zero, **counts})  # type: ignore[arg-type]


def _joined(*reports: Report | None, spec: PipelineSpec = _SPEC, code: int = 1) -> Report:
    endings = [
        Ending(
            tag=f"{number}of{len(reports)}", code=0 if report else code, report=report, message="" if report else "x"
        )
        for number, report in enumerate(reports, start=1)
    ]
    return join(spec, endings, seconds=2.0)


@given(of=st.integers(2, 9), requests=st.floats(0.5, 500), limit=st.integers(0, 10_000))
def test_all_shares_together_keep_to_the_account(of: int, requests: float, limit: int) -> None:
    """Rates, jobs in flight, concurrency and a limit are divided: their sums are no more than what there is."""
    limits = Limits(requests=requests, jobs_in_flight=100, concurrency=32)
    settings = Settings(platform=Platform(limits=limits, emulator=EmulatorSettings(requests=requests)))
    shares = [Share(number, of) for number in range(1, of + 1)]

    each = [settings_of(settings, share).platform for share in shares]

    assert sum(one.limits.requests or 0 for one in each) == pytest.approx(requests)
    assert sum(one.emulator.requests or 0 for one in each) == pytest.approx(requests)
    assert sum(one.limits.jobs_in_flight for one in each) <= 100
    assert sum(one.limits.concurrency for one in each) <= 32
    assert all(one.limits.concurrency >= 3 for one in each)
    assert sum(limit_of(limit, share) or 0 for share in shares) == limit
    assert limit_of(None, shares[0]) is None


def test_a_share_is_a_pipeline_of_its_own() -> None:
    """It has its own name, its part of the jobs, and leaves judging the end to whoever sees all shares."""
    spec = spec_of(msgspec.structs.replace(_SPEC, expect=ExpectSpec(min_rows=5)), Share(1, 2))

    assert (spec.name, spec.job and spec.job.jobs_in_flight) == ("p.1of2", 4)
    assert (unjudged(spec).expect.min_rows, unjudged(spec).dead_letters.max) == (0, 1.0)


def test_counts_are_added_and_judged_as_one() -> None:
    """The sum balances, and a bad share is weighed with a good one."""
    spec = msgspec.structs.replace(_SPEC, dead_letters=DeadLettersSpec(max=0.1), expect=ExpectSpec(min_rows=15))

    joint = _joined(_report(read=5, dead=2, accepted=3, jobs=1), _report(read=15, accepted=15, jobs=2), spec=spec)

    assert (joint.outcome, joint.exit_code) == ("done", 0)
    assert (joint.read, joint.accepted, joint.dead, joint.jobs, joint.seconds) == (20, 18, 2, 3, 2.0)


@pytest.mark.parametrize(
    ("reports", "outcome", "code"),
    [
        ((_report(read=9, accepted=7, dead=2), _report(read=1, accepted=1)), "over_budget", 5),
        ((_report(read=1, accepted=1), _report()), "too_few_rows", 6),
        ((_report(read=9, accepted=9), _report("interrupted", read=9, open=9)), "interrupted", 75),
        ((_report(read=99, accepted=99), _report("over_budget", read=9, accepted=8, dead=1)), "over_budget", 5),
        ((_report("interrupted"), _report("unbalanced")), "unbalanced", 6),
        ((_report(read=9, accepted=8, open=1), _report()), "unbalanced", 6),
        ((_report(read=9, accepted=9), None), "failed", 73),
        ((_report("nothing_new", read=9, accepted=9), _report("nothing_new", read=4, accepted=4)), "nothing_new", 0),
    ],
)
def test_the_worst_of_the_shares_is_the_run_s(reports: tuple[Report | None, ...], outcome: str, code: int) -> None:
    """A failure goes before an imbalance, that before a stop, and that before what the sums say."""
    spec = msgspec.structs.replace(_SPEC, dead_letters=DeadLettersSpec(max=0.1), expect=ExpectSpec(min_rows=5))

    joint = _joined(*reports, spec=spec, code=73)

    assert (joint.outcome, joint.exit_code) == (outcome, code)


def test_old_books_are_no_part_of_a_new_run() -> None:
    """A share that found nothing new shows its run before, which is not added to what the other one did now."""
    joint = _joined(_report("nothing_new", read=100, accepted=100), _report(read=3, accepted=3))

    assert (joint.outcome, joint.read, joint.accepted) == ("done", 3, 3)


def test_a_joint_report_names_commands_that_find_all_shares() -> None:
    """There is no one run to show: the next command lists the runs of every share."""
    lines = report_lines(_joined(_report(read=1, accepted=1), None), "p.toml --processes 2", Paint(is_on=False))

    assert "engine runs ls p" in lines[-1]
    assert "engine run p.toml --processes 2" in lines[-1]
    assert any("2of2: x" in line for line in lines)


@pytest.mark.parametrize(
    ("change", "can_reread"),
    [
        ({"source": SourceSpec(type="platform", key="id", route="devices.list")}, True),
        ({}, False),
        ({"callback": CallbackSpec(listen="127.0.0.1:8080")}, True),
        ({"callback": CallbackSpec(public_url="https://example.org/cb")}, True),
    ],
)
def test_what_one_process_alone_can_do_is_refused(change: dict[str, Any], *, can_reread: bool) -> None:
    """Listings, pipes and a receiver at a fixed address cannot be divided; a receiver at any port can."""
    refuse_indivisible(msgspec.structs.replace(_SPEC, callback=CallbackSpec()), can_reread=True)
    with pytest.raises(ConfigError, match=r"cannot be divided|one process only|only one process"):
        refuse_indivisible(msgspec.structs.replace(_SPEC, **change), can_reread=can_reread)


@pytest.mark.parametrize("tag", ["3of2", "0of2", "1of1", "1of", "of2", "1 of 2", "1of2 "])
def test_a_tag_names_a_share_or_nothing(tag: str) -> None:
    """`1of2` is the first of two; what is not like it is refused."""
    assert share_of_tag("2of3") == Share(2, 3)
    with pytest.raises(ConfigError):
        share_of_tag(tag)


@pytest.mark.anyio
async def test_a_fresh_epoch_is_begun_once_by_each_share(rig: Rig) -> None:
    """Killed before all shares began anew, those that had not are told again, and those that had are not."""
    directory = rig.directory / "state" / "rig"
    rig.write(3)
    rig.text = rig.text[: rig.text.index("[job]")] + rig.text[rig.text.index("[sink]") :]
    for number in (1, 2):
        rig.replace('"rig"' if number == 1 else '"rig.1of2"', f'"rig.{number}of2"')
        rig.replace("/out", f"/out{number}") if number == 1 else rig.replace("/out1", "/out2")
        await rig.run()
    directory.mkdir()

    assert divide(directory, processes=2, fresh=False) == Division(processes=2)
    assert [share.tag for share in shares_begun(directory)] == ["1of2", "2of2"]
    assert divide(directory, processes=2, fresh=True).anew == {"1of2": 1, "2of2": 1}
    await rig.run(fresh=True)
    assert divide(directory, processes=2, fresh=False).anew == {"1of2": 1}
    assert find_division(directory) == Division(processes=2, anew={"1of2": 1})
    with pytest.raises(ConfigError, match="runs in 2 processes"):
        divide(directory, processes=3, fresh=True)


def test_a_share_sweeps_its_own_parts_alone(tmp_path: Path) -> None:
    """Parts, temporary files and manifests of other shares stay, also where their numbers are alike."""
    spec = SinkSpec(type="ndjson", path=str(tmp_path))
    shares = [Share(1, 2), Share(2, 2)]
    sinks = [open_sink(spec, {}, pipeline=share.named("p"), share=share) for share in shares]
    for sink, share in zip(sinks, shares, strict=True):
        part = sink.begin(epoch=1, number=1)
        part.append(b'{"id":"%d"}\n' % share.number, 1)
        done = part.finish()
        assert done.name == f"part-0001-{share.tag}-000001.ndjson"
        listed = {"name": done.name, "rows": 1, "bytes": done.body_bytes, "sha256": done.sha256}
        sink.write_manifest({"epoch": 1, "rows": 1, "parts": [listed]})
    (tmp_path / ".part-0001-2of2-000002.ndjson.tmp").touch()
    (tmp_path / "._manifest.2of2.json.tmp").touch()

    assert sinks[0].sweep(set()) == 1
    assert write_joint(spec, shares, pipeline="p") == (str(tmp_path / "_manifest.json"), 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "._manifest.2of2.json.tmp",
        ".part-0001-2of2-000002.ndjson.tmp",
        "_manifest.1of2.json",
        "_manifest.2of2.json",
        "_manifest.json",
        "part-0001-2of2-000001.ndjson",
    ]
    assert sinks[1].sweep({"part-0001-2of2-000001.ndjson"}) == 2
    with pytest.raises(OutputError, match="holds the parts"):
        open_sink(spec, {}, pipeline="other.1of2", share=shares[0])
