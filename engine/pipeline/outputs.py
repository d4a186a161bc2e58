"""What a pipeline says of sinks that are no directory and no table: standard output, and a function of the user's.

Pure, like `check`: whether a function can be imported shows at run time.
"""

from __future__ import annotations

from collections.abc import Iterator

from engine.pipeline.findings import Fault
from engine.pipeline.locate import KeyPath
from engine.pipeline.spec import SinkSpec

_WITHOUT_FILES = ("stdout", "python")


def check_outputs(sink: SinkSpec) -> Iterator[Fault]:
    """A function that is missing, and options that do not go with a sink without files."""
    if sink.type in _WITHOUT_FILES:
        for option, usual in (("path", ""), ("compression", "none")):
            if getattr(sink, option) != usual:
                yield _fault(("sink", option), "conflict", f"a {sink.type} sink has no `{option}`")
    if sink.type == "python":
        module, _, name = (sink.call or "").partition(":")
        if sink.call is None:
            yield _fault(("sink", "call"), "missing", "`call` is missing in [sink]", 'call = "module:function"')
        elif not module or not name:
            yield _fault(("sink", "call"), "range", f"`{sink.call}` names no function", 'write "module:function"')
    elif sink.call is not None:
        yield _fault(("sink", "call"), "conflict", f"a {sink.type} sink has no `call`")


def _fault(at: KeyPath, code: str, message: str, hint: str = "") -> Fault:
    return Fault(at=at, code=f"config.{code}", message=message, hint=hint)
