"""What a pipeline says of standard output and of a function as its sink."""

from __future__ import annotations

import pytest

_SINK = 'type = "ndjson"\npath = "out"'


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ('type = "stdout"', ""),
        ('type = "stdout"\nrotate = { age = "1s" }', ""),
        ('type = "stdout"\npath = "out"', "conflict"),
        ('type = "python"\ncall = "acme.imports:store"', ""),
        ('type = "python"', "missing"),
        ('type = "python"\ncall = "acme"', "range"),
        ('type = "python"\ncall = "a:b"\ncompression = "gzip"', "conflict"),
        (_SINK + '\ncall = "a:b"', "conflict"),
    ],
)
def test_a_sink_without_files_has_no_options_of_files(findings, good, text, code) -> None:
    """A function is named as module:function; nothing is written to a path."""
    assert _SINK in good
    assert [one.finding_code for one in findings(good.replace(_SINK, text))] == ([f"config.{code}"] if code else [])
