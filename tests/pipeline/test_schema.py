"""Schemas: editors are told what the parser accepts, from the same types."""

import re

import pytest

from engine.pipeline.schema import SCHEMAS, config_schema, pipeline_schema


def _walk(node):
    yield node
    for member in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from _walk(member)


@pytest.mark.parametrize("make", SCHEMAS.values())
def test_every_reference_resolves_and_every_pattern_compiles(make) -> None:
    """A schema is closed: each $ref is in $defs, each pattern a regular expression, each table shut."""
    schema = make()

    for node in _walk(schema):
        if isinstance(node, dict) and isinstance(node.get("$ref"), str):
            assert node["$ref"].removeprefix("#/$defs/") in schema["$defs"]
        if isinstance(node, dict) and isinstance(node.get("pattern"), str):
            re.compile(node["pattern"])
        if isinstance(node, dict) and "properties" in node and node.get("type") == "object":
            assert node["additionalProperties"] is False


def test_units_are_text_and_secrets_are_references() -> None:
    """A duration is text of its form or a reference; a secret is a reference only."""
    platform = config_schema()["$defs"]["Platform"]["properties"]

    forms = platform["timeout"]["anyOf"]
    assert [form.get("type", form.get("$ref")) for form in forms] == ["string", "#/$defs/reference"]
    assert re.search(forms[0]["pattern"], "1h30m")
    assert not re.search(forms[0]["pattern"], "30")
    assert platform["client_secret"]["$ref"] == "#/$defs/reference"


def test_options_are_described() -> None:
    """Every option of a pipeline that is no table has a hover text."""
    defs = pipeline_schema()["$defs"]

    bare = [
        f"{name}.{key}"
        for name, table in defs.items()
        for key, option in table.get("properties", {}).items()
        if "description" not in option and "$ref" not in option
    ]

    # A table that may be absent is described where it is defined.
    assert bare == []
