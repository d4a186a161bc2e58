"""The cyclic collector of a run: rare, and still there."""

import subprocess
import sys

PROGRAM = """
import gc, weakref
from engine.cli.collecting import collect_rarely

class Loop:
    pass

def left():
    loop = Loop()
    loop.itself = loop
    return weakref.ref(loop)

collect_rarely()
held = []
before, kept = gc.get_freeze_count(), left()
collect_rarely()
assert gc.get_freeze_count() == before > 1000
for _ in range(2 * gc.get_threshold()[0]):
    held.append([])
assert kept() is None
"""


def test_what_was_loaded_is_exempt_and_what_a_run_leaves_is_collected():
    """Frozen once, and after so many new objects a cycle goes, also one that was left before a second call."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
