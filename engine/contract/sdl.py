"""The GraphQL bundle of approved partners: the schema behind the approved documents, and these documents (Q61, Q65).

Made from the same types that the answers are made of. Nothing in it can be run that is not an approved document; it
is there so that tools can check and generate what speaks them.
"""

from __future__ import annotations

from types import NoneType, UnionType
from typing import Any, get_args, get_type_hints

import msgspec

from engine.contract.graphql import ACQI_METRICS, HEALTH_CHECK, AcqiMetric, fingerprint
from engine.contract.profile import PROFILE

_NAMES = {str: "String", int: "Int", float: "Float", bool: "Boolean"}
_DOCUMENTS = (HEALTH_CHECK, ACQI_METRICS)


def external_graphql() -> str:
    """The whole bundle as one text in GraphQL's schema language."""
    return "\n".join(
        [
            f"# The approved GraphQL operations of contract {PROFILE.version}.",
            "# A document runs as a whole or not at all: it is known by the SHA-256 of its text, with each run of",
            "# white space as one blank.",
            "#",
            *(f"#   {fingerprint(document)}\n#     {document}" for document in _DOCUMENTS),
            "",
            '"A day: YYYY-MM-DD (ISO 8601)."',
            "scalar Date",
            "",
            "type Query {",
            '  "Who is asking; a probe without any effect."',
            "  viewer: Viewer!",
            '  "Ambulance care quality indicators; both days count, and fromDate is not after toDate."',
            "  acqiMetrics(fromDate: Date!, toDate: Date!): [AcqiMetric!]!",
            "}",
            "",
            "type Viewer {",
            "  id: ID!",
            "}",
            "",
            '"One indicator over a period; value is null where nothing was counted."',
            "type AcqiMetric {",
            *(f"  {name}: {kind}" for name, kind in _members(AcqiMetric).items()),
            "}",
            "",
        ]
    )


def _members(kind: type[msgspec.Struct]) -> dict[str, str]:
    """The members of a type by their names on the wire."""
    hints = get_type_hints(kind)
    return {field.encode_name: _named(hints[field.name]) for field in msgspec.structs.fields(kind)}


def _named(hint: Any) -> str:
    if isinstance(hint, UnionType):
        (kind,) = (one for one in get_args(hint) if one is not NoneType)
        return _NAMES[kind]
    return _NAMES[hint] + "!"
