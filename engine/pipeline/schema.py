"""Schema: JSON Schema 2020-12 of pipeline files and `config.toml`, for editors.

Made from the same types that judge a file, so the two cannot disagree: values with units are text of their
unit's form, and wherever a value may be a `${…}` reference the schema says so.
"""

from __future__ import annotations

from typing import Any, cast

import msgspec
from msgspec import inspect

from engine.contract.profile import PROFILE
from engine.pipeline.judge import Shape, shape_of
from engine.pipeline.spec import PipelineSpec
from engine.settings import Settings

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_REFERENCE = {"$ref": "#/$defs/reference"}
_BOUNDS = {
    "ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "min_length": "minLength",
    "max_length": "maxLength", "pattern": "pattern",
}  # fmt: skip


def pipeline_schema() -> dict[str, Any]:
    """The schema of a pipeline file."""
    schema = _document(PipelineSpec, "A pipeline of engine")
    # Text in the type, so that a newer platform's kinds need a release of the contract only.
    schema["$defs"]["JobSpec"]["properties"]["kind"]["enum"] = list(PROFILE.kinds)
    return schema


def config_schema() -> dict[str, Any]:
    """The schema of `config.toml`."""
    return _document(Settings, "Settings of engine")


SCHEMAS = {"pipeline": pipeline_schema, "config": config_schema}


def _document(kind: type[msgspec.Struct], title: str) -> dict[str, Any]:
    defs: dict[str, Any] = {
        "reference": {
            "type": "string",
            "pattern": r"\$\{[^}]+\}",
            "description": "A reference: ${env:NAME}, ${env:NAME?}, ${secret:env:NAME}, ${secret:file:PATH}.",
        }
    }
    root = _table(cast(inspect.StructType, inspect.type_info(kind)), defs)
    root["patternProperties"] = {"^x-": True}
    return {"$schema": DIALECT, "title": title, **root, "$defs": defs}


def _table(info: inspect.StructType, defs: dict[str, Any]) -> dict[str, Any]:
    required = [field.encode_name for field in info.fields if field.required]
    schema: dict[str, Any] = {"type": "object", "description": _first_sentence(info.cls)}
    schema["properties"] = {field.encode_name: _field(field, defs) for field in info.fields}
    if required:
        schema["required"] = required
    return {**schema, "additionalProperties": False}


def _first_sentence(kind: type) -> str:
    return (kind.__doc__ or "").strip().split("\n", 1)[0]


def _field(field: inspect.Field, defs: dict[str, Any]) -> dict[str, Any]:
    shape = shape_of(field.type)
    schema = _value(shape, defs)
    if shape.description:
        schema = {**schema, "description": shape.description}
    # A default with a unit would have to be written back as text; the description of the table says it.
    if not shape.unit and isinstance(field.default, str | int | float | bool):
        schema["default"] = field.default
    return schema


def _value(shape: Shape, defs: dict[str, Any]) -> dict[str, Any]:
    if shape.unit:
        examples = [text.strip(' "') for text in shape.unit.examples.split(",")]
        unit = {"type": "string", "pattern": shape.unit.pattern, "examples": examples}
        return {"anyOf": [unit, _REFERENCE]}
    choices = [_kind(kind, defs) for kind in shape.kinds]
    if any(isinstance(kind, _SCALARS) for kind in shape.kinds):
        choices.append(_REFERENCE)
    return choices[0] if len(choices) == 1 else {"anyOf": choices}


_SCALARS = (inspect.BoolType, inspect.IntType, inspect.FloatType, inspect.LiteralType)


def _kind(kind: inspect.Type, defs: dict[str, Any]) -> dict[str, Any]:
    match kind:
        case inspect.StructType():
            name = kind.cls.__name__
            if name not in defs:
                defs[name] = {}
                defs[name] = _table(kind, defs)
            return {"$ref": f"#/$defs/{name}"}
        case inspect.VarTupleType():
            schema: dict[str, Any] = {"type": "array", "items": _value(shape_of(kind.item_type), defs)}
            return schema if kind.min_length is None else {**schema, "minItems": kind.min_length}
        case inspect.DictType():
            return {"type": "object", "additionalProperties": _value(shape_of(kind.value_type), defs)}
        case inspect.LiteralType():
            return {"enum": list(kind.values)}
        case inspect.CustomType():
            return dict(_REFERENCE)
        case inspect.AnyType():
            return {}
        case inspect.BoolType():
            return {"type": "boolean"}
    names = {inspect.IntType: "integer", inspect.FloatType: "number", inspect.StrType: "string"}
    return {"type": names[type(kind)]} | _bounds(kind)


def _bounds(kind: inspect.Type) -> dict[str, Any]:
    pairs = ((word, getattr(kind, name, None)) for name, word in _BOUNDS.items())
    return {word: bound for word, bound in pairs if bound is not None}
