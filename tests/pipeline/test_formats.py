"""What the formats of input files allow."""

from __future__ import annotations

import pytest

_INPUT = 'type = "ndjson"\npaths = ["data/*.ndjson"]\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('type = "json"\npaths = ["x"]\nrows = "data"\ncompression = "gzip"\n', ""),
        ('type = "parquet"\npaths = ["x"]\n', ""),
        ('type = "parquet"\npaths = ["x"]\ncompression = "gzip"\n', "says itself"),
        ('type = "json"\npaths = ["-"]\n', "not from stdin"),
        ('type = "parquet"\npaths = ["-"]\n', "not from stdin"),
        (_INPUT + 'rows = "data"\n', "a ndjson source has no `rows`"),
        ('type = "json"\npaths = ["x"]\ndelimiter = ";"\n', "a json source has no `delimiter`"),
    ],
)
def test_options_go_with_their_format(findings, good, text, said) -> None:
    """An option of another format, or an input that cannot be read so, is one finding."""
    assert _INPUT in good
    found = findings(good.replace(_INPUT, text))
    assert len(found) == bool(said)
    assert all(said in one.message and one.finding_code == "config.conflict" for one in found)
