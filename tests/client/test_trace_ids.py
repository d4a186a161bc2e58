"""Trace and span ids: random, well-formed, and never the same in two processes."""

import os

from engine.contract.exchange import new_span_id, new_trace_id


def test_ids_are_well_formed_and_differ() -> None:
    """Hex digits in the lengths that W3C Trace Context asks for, and none twice."""
    spans, traces = {new_span_id() for _ in range(5000)}, {new_trace_id() for _ in range(5000)}

    assert len(spans) == len(traces) == 5000
    assert {len(bytes.fromhex(one)) for one in spans} == {8}
    assert {len(bytes.fromhex(one)) for one in traces} == {16}


def test_a_forked_process_draws_its_own_ids() -> None:
    """Ids that were drawn ahead are not given out by parent and child alike."""
    new_span_id()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, " ".join(new_span_id() for _ in range(100)).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        theirs = set(pipe.read().decode().split())
    os.waitpid(child, 0)

    assert len(theirs) == 100
    assert theirs.isdisjoint(new_span_id() for _ in range(300))
