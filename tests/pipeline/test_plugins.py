"""What a pipeline says of plug-ins."""

from __future__ import annotations

import pytest

_INPUT = 'type = "ndjson"\npaths = ["data/*.ndjson"]'
_SINK = 'type = "ndjson"\npath = "out"'
_STEP = '[[transform]]\ntype = "plugin"\n'


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        (_INPUT, 'type = "plugin"\nuse = "acme"\noptions = { queue = "q", depth = { a = [1] } }', ""),
        (_INPUT, 'type = "plugin"', "missing"),
        (_INPUT, 'type = "plugin"\nuse = "acme"\npaths = ["x"]', "conflict"),
        (_INPUT, _INPUT + '\nuse = "acme"', "conflict"),
        (_INPUT, _INPUT + "\noptions = { a = 1 }", "conflict"),
        (_SINK, 'type = "plugin"\nuse = "acme"', ""),
        (_SINK, 'type = "plugin"\nuse = "acme"\npath = "out"', "conflict"),
        (_SINK, _SINK + '\nuse = "acme"', "conflict"),
        ("[sink]", _STEP + 'use = "acme"\noptions = { a = 1 }\ntimeout = "5s"\n[sink]', ""),
        ("[sink]", _STEP + "[sink]", "missing"),
        ("[sink]", _STEP + 'use = "acme"\ncall = "a:b"\n[sink]', "conflict"),
        (_INPUT, 'type = "plugin"\nuse = "acme"\noptions = { password = "inline" }', "secret"),
    ],
)
def test_a_plug_in_is_named_and_has_options_of_its_own(findings, good, old, new, code) -> None:
    """Which one is said by `use`; what it takes stands in `options`, and secrets never do."""
    assert old in good
    assert [one.finding_code for one in findings(good.replace(old, new))] == ([f"config.{code}"] if code else [])
