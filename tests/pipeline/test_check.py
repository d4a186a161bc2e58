"""Sense: options that are right one by one and wrong together."""

import pytest

KIND = 'kind = "intelligence.enrich.bulk"\n'


def test_a_right_pipeline_has_no_findings(findings, good) -> None:
    """The smallest useful pipeline is accepted."""
    assert findings(good) == []


@pytest.mark.parametrize(
    ("old", "new", "key", "code"),
    [
        (KIND, KIND + "batch = { rows = 10_001 }\n", "job.batch.rows", "config.range"),
        (KIND, KIND + 'batch = { bytes = "1MiB" }\n', "job.batch.bytes", "config.range"),
        (KIND, KIND + "payload = { profile_ids = [] }\n", "job.payload.profile_ids", "config.conflict"),
        (KIND, 'kind = "import.bulk"\npayload = { source = 1 }\n', "job.payload.source", "config.conflict"),
        (KIND, KIND + 'poll = { first = "9s", max = "3s" }\n', "job.poll.max", "config.conflict"),
        (KIND, KIND + 'secrecy_level = "hush"\n', "job.secrecy_level", "config.choice"),
        ('type = "ndjson"\npath ', 'type = "csv"\npath ', "sink.type", "config.missing"),
        ('type = "ndjson"\npath ', 'type = "parquet"\npath ', "sink.type", "config.missing"),
        ('path = "out"', 'path = "./data/"', "source.paths.0", "config.unsafe"),
        ('paths = ["data/*.ndjson"]', 'paths = ["-", "-"]', "source.paths", "config.conflict"),
        ('paths = ["data/*.ndjson"]', "paths = []", "source.paths", "config.missing"),
        ("key =", 'delimiter = ";"\nkey =', "source.delimiter", "config.conflict"),
        ("key =", 'line_max = "1GiB"\nkey =', "source.line_max", "config.conflict"),
        ("[job]", '[source.fields]\na = "strr"\n[job]', "source.fields.a", "config.choice"),
        ("[sink]", '[results.fields]\na = "int | none"\n[sink]', "results.fields.a", "config.choice"),
        (
            "[sink]",
            '[results]\naccepted = ["a"]\nrejected = ["a"]\n[sink]',
            "results.rejected",
            "config.conflict",
        ),
        (KIND, 'kind = "graph.compute"\n[results]\naccepted = ["a"]\n', "results.accepted", "config.conflict"),
        ('path = "out"', 'path = "out"\nrotate = { rows = 0 }', "sink.rotate.rows", "config.range"),
        ('path = "out"', 'path = "out"\nrotate = { age = "0s" }', "sink.rotate.age", "config.range"),
        ('path = "out"', 'path = "out"\n[dead_letters]\nmax = "101%"', "dead_letters.max", "config.range"),
    ],
)
def test_options_that_contradict_each_other(findings, good, old, new, key, code) -> None:
    """Each contradiction is one finding, at the option that has to change."""
    assert old in good
    found = findings(good.replace(old, new))

    assert [(one.facts["key"], one.finding_code) for one in found] == [(key, code)]


@pytest.mark.parametrize(
    ("options", "key", "code"),
    [
        ('type = "select"', "fields", "config.missing"),
        ('type = "select"\nfields = { a = "b" }', "fields", "config.type"),
        ('type = "select"\nfields = []', "fields", "config.range"),
        ('type = "select"\nfields = ["a"]\nop = "=="', "op", "config.conflict"),
        ('type = "rename"\nfields = ["a"]', "fields", "config.type"),
        ('type = "rename"\nfields = { a = "c", b = "c" }', "fields", "config.conflict"),
        ('type = "set"\nvalues = {}', "values", "config.range"),
        ('type = "filter"\nfield = "a"', "op", "config.missing"),
        ('type = "filter"\nfield = "a"\nop = "=="', "value", "config.missing"),
        ('type = "filter"\nfield = "a"\nop = "in"\nvalue = 1', "value", "config.type"),
        ('type = "filter"\nfield = "a"\nop = "matches"\nvalue = "("', "value", "config.range"),
        ('type = "filter"\nfield = "a"\nop = "exists"\nvalue = 1', "value", "config.conflict"),
        ('type = "filter"\nfield = "a"\nop = "<"\nvalue = true', "value", "config.type"),
        ('type = "python"\ncall = "os.system"', "call", "config.range"),
    ],
)
def test_each_transform_takes_its_own_options(findings, good, options, key, code) -> None:
    """A transform's options are judged by its type."""
    found = findings(good.replace("[job]", f"[[transform]]\n{options}\n\n[job]"))

    assert [(one.facts["key"], one.finding_code) for one in found] == [(f"transform.0.{key}", code)]


def test_right_transforms_are_accepted(findings, good) -> None:
    """One of each kind, rightly written, is no finding."""
    transforms = """
[[transform]]
type = "filter"
field = "a"
op = "in"
value = [1, 2]
[[transform]]
type = "rename"
fields = { old = "new" }
[[transform]]
type = "set"
values = { since = 2026-01-01, token = "not a secret here" }
[[transform]]
type = "python"
call = "acme.clean:rows"
[[transform]]
type = "select"
fields = ["new", "profile_id"]

[job]
"""
    assert findings(good.replace("[job]\n", transforms)) == []


def test_overrides_reach_a_pipeline(findings, good) -> None:
    """`--set` changes a pipeline's options, and its faults name the flag."""
    assert findings(good, overrides={"job.batch.rows": "5", "job.payload": "{ force = true }"}) == []

    (found,) = findings(good, overrides={"job.batch.rows": "0"})

    assert (found.path, found.finding_code) == ("--set job.batch.rows", "config.range")


@pytest.mark.parametrize(
    "text",
    [
        'type = "map"\nvalues = { full = "first + last" }',
        'type = "filter"\nwhere = "score > 0.5"',
        'type = "cast"\nfields = { age = "int | None" }',
        'type = "cast"\nfields = { age = "int" }\nbad = "null"',
        'type = "mask"\nfields = ["name"]',
        'type = "mask"\nfields = ["name"]\nhow = "hash"\nsecret = "${secret:env:KEY}"',
        'type = "flatten"',
        'type = "flatten"\nfields = ["a"]\nseparator = "."',
    ],
)
def test_transforms_that_compute_and_clean_are_right(findings, good, text) -> None:
    """Each with the options it takes."""
    assert findings(good.replace("[job]", f"[[transform]]\n{text}\n[job]"), env={"KEY": "k"}) == []


@pytest.mark.parametrize(
    ("text", "key", "code"),
    [
        ('type = "map"\nvalues = { full = "first +" }', "values.full", "config.range"),
        ('type = "map"\nvalues = { full = 1 }', "values.full", "config.type"),
        ('type = "map"\nvalues = {}', "values", "config.range"),
        ('type = "filter"\nwhere = "a = 1"', "where", "config.range"),
        ('type = "filter"\nwhere = "a == 1"\nfield = "a"', "field", "config.conflict"),
        ('type = "set"\nvalues = { a = 1 }\nwhere = "a"', "where", "config.conflict"),
        ('type = "cast"\nfields = { age = "itn" }', "fields.age", "config.choice"),
        ('type = "cast"\nfields = ["age"]', "fields", "config.type"),
        ('type = "mask"\nfields = ["a"]\nhow = "hash"', "secret", "config.missing"),
        ('type = "mask"\nfields = ["a"]\nsecret = "${secret:env:KEY}"', "secret", "config.conflict"),
        ('type = "mask"\nfields = { a = "b" }', "fields", "config.type"),
        ('type = "flatten"\nbad = "null"', "bad", "config.conflict"),
    ],
)
def test_transforms_that_compute_and_clean_are_judged(findings, good, text, key, code) -> None:
    """Each mistake is one finding, at its option."""
    found = findings(good.replace("[job]", f"[[transform]]\n{text}\n[job]"), env={"KEY": "k"})
    assert [(one.facts["key"], one.finding_code) for one in found] == [(f"transform.0.{key}", code)]
