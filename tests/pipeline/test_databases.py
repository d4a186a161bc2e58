"""What a pipeline may say of a database: each mistake is one finding, and its URL is never shown."""

from __future__ import annotations

import pytest

from engine.pipeline.parse import load_pipeline

_CANARY = "c4n4ry"
_URL = f"postgresql://me:{_CANARY}@db/x"
_FILES = '[sink]\ntype = "ndjson"\npath = "out"'
_FIELDS = '[results.fields]\nid = "str"\n'
_TABLE = '[sink]\ntype = "postgres"\nurl = "${secret:env:URL}"\ntable = "raw.rows"\n'
_UPSERT = _TABLE + 'key = ["id"]\n'
_APPEND = _TABLE + 'mode = "append"\n'


def judged(findings, good: str, text: str) -> list[tuple[str, str]]:
    """The findings of a pipeline with this sink, as (code, message)."""
    assert _FILES in good
    found = findings(good.replace(_FILES, text), env={"URL": _URL})
    assert _CANARY not in str([(one, one.hint, one.facts) for one in found])
    return [(one.finding_code, one.message) for one in found]


@pytest.mark.parametrize("text", [_FIELDS + _UPSERT, _FIELDS + _APPEND, _FIELDS + _APPEND + 'part_column = "part"\n'])
def test_a_database_sink_is_right(findings, good, text) -> None:
    """Upsert by a key, and append with a column for the part."""
    assert judged(findings, good, text) == []


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        (_FIELDS + _UPSERT.replace('url = "${secret:env:URL}"\n', ""), "missing", "`url` is missing in [sink]"),
        (_FIELDS + _UPSERT.replace("${secret:env:URL}", _URL), "secret", ""),
        (_FIELDS + _UPSERT.replace('table = "raw.rows"\n', ""), "missing", "`table` is missing in [sink]"),
        (_FIELDS + _UPSERT.replace("raw.rows", "a.b.c"), "range", "`a.b.c` names no table"),
        (_FIELDS + _UPSERT.replace("raw.rows", ".rows"), "range", "`.rows` names no table"),
        (_FIELDS + _UPSERT.replace("raw.rows", "ä" * 32), "range", "at most 63 bytes"),
        (_FIELDS + _TABLE, "missing", "`key` is missing in [sink]"),
        (_FIELDS + _UPSERT.replace('["id"]', '["ib"]'), "conflict", "key `ib` is not in [results.fields]"),
        (_FIELDS + _APPEND + 'key = ["id"]\n', "conflict", "mode append replaces nothing"),
        (_FIELDS + _APPEND + 'part_column = "id"\n', "conflict", "the engine's own"),
        (_FIELDS + _UPSERT + 'part_column = "part"\n', "conflict", "only mode append"),
        (_UPSERT, "missing", "needs [results.fields]"),
        (_FIELDS + _UPSERT + 'path = "out"\n', "conflict", "a postgres sink has no `path`"),
        (_FIELDS + _UPSERT + 'compression = "gzip"\n', "conflict", "a postgres sink has no `compression`"),
        (_FILES + '\ntable = "rows"\n', "conflict", "a ndjson sink has no `table`"),
        (_FILES + '\nkey = ["id"]\n', "conflict", "a ndjson sink has no `key`"),
    ],
)
def test_each_mistake_is_one_finding(findings, good, text, code, said) -> None:
    """What is missing, contradictory or not a database's is told once, where it has to change."""
    [(found, message)] = judged(findings, good, text)
    assert found == f"config.{code}"
    assert said in message


_INPUT = '[source]\ntype = "ndjson"\npaths = ["data/*.ndjson"]\n'
_ROWS = '[source]\ntype = "postgres"\nurl = "${secret:env:URL}"\ncursor = ["at", "id"]\n'


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        (_ROWS + 'table = "raw.rows"\n', "", ""),
        (_ROWS + 'query = "SELECT 1 AS id"\ntimeout = "5s"\n', "", ""),
        (_ROWS, "missing", "one of `table` and `query`"),
        (_ROWS + 'table = "t"\nquery = "SELECT 1"\n', "missing", "one of `table` and `query`"),
        (_ROWS.replace('cursor = ["at", "id"]\n', 'table = "t"\n'), "missing", "`cursor` is missing"),
        (_ROWS.replace('"at"', '"id"') + 'table = "t"\n', "conflict", "stands twice"),
        (_ROWS + 'table = "a..b"\n', "range", "names no table"),
        (_ROWS.replace('url = "${secret:env:URL}"\n', 'table = "t"\n'), "missing", "`url` is missing in [source]"),
        (_ROWS + 'table = "t"\npaths = ["x"]\n', "conflict", "a postgres source has no `paths`"),
        (_ROWS + 'table = "t"\nroute = "devices.list"\n', "conflict", "a postgres source has no `route`"),
        (_ROWS + 'table = "t"\ndelimiter = ";"\n', "conflict", "a postgres source has no `delimiter`"),
        (_INPUT + 'query = "SELECT 1"\n', "conflict", "a ndjson source has no `query`"),
    ],
)
def test_what_a_source_may_say(findings, good, text, code, said) -> None:
    """A table or a query in the order of a cursor; what is missing or a file's is one finding."""
    assert _INPUT in good
    found = findings(good.replace(_INPUT, text), env={"URL": _URL})
    assert [one.finding_code for one in found] == ([f"config.{code}"] if code else [])
    assert all(said in one.message for one in found)


def test_the_url_is_a_secret_from_its_reading_on(good, tmp_path) -> None:
    """A parsed pipeline does not show the URL, however it is printed."""
    (tmp_path / "p.toml").write_text(good.replace(_FILES, _FIELDS + _UPSERT))
    spec = load_pipeline("p.toml", env={"URL": _URL})

    assert spec.sink.url is not None
    assert spec.sink.url.reveal() == _URL
    assert _CANARY not in f"{spec} {spec!r} {spec.sink.url} {spec.sink.url!r}"


def test_a_url_with_a_password_on_the_command_line_is_refused(findings, good) -> None:
    """`--set sink.url=…` with the URL itself is refused: arguments are visible to the whole machine."""
    text = good.replace(_FILES, _FIELDS + _UPSERT)
    [found] = findings(text, env={"URL": _URL}, overrides={"sink.url": _URL})

    assert found.finding_code == "config.secret"
    assert "command line" in found.message
    assert _CANARY not in str((found, found.hint, found.facts))
    assert findings(text, env={"URL": _URL}, overrides={"sink.url": "${secret:env:URL}"}) == []
