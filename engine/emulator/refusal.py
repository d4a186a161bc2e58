"""Refusals: the one way for a handler to say no, and the one way to say nothing at all.

Values only; `dispatch` writes them on the wire.
"""

from __future__ import annotations

from typing import Any

from engine.contract.problem import FieldFault
from engine.contract.profile import PROFILE


class Refusal(Exception):
    """A handler says no; the server writes it as a problem document (contract 1.9).

    `code` is the machine's word (`job_not_ready`), `detail` the human's. `errors` are the faults of a 422,
    `extra` further members of the document.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        headers: dict[str, str] | None = None,
        errors: list[FieldFault] | None = None,
        extra: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.headers = headers or {}
        self.errors = errors
        self.extra = extra or {}


class OAuthRefusal(Refusal):
    """The token endpoint says no in its own shape: `error` and `error_description` (RFC 6749 section 5.2)."""


class Dropped(Exception):
    """The connection is to be closed without an answer."""


def invalid(where: str, name: str, message: str, kind: str = "value_error") -> Refusal:
    """The refusal of one member that breaks a rule: `where` is `body`, `query`, `path` or `header` (Q1)."""
    return unfit(f"{where}.{name}: {message}", [FieldFault([where, name], message, kind)])


def unfit(detail: str, faults: list[FieldFault] | None = None) -> Refusal:
    """The refusal of a question that can be read and breaks a rule: 422, unless the profile says otherwise (Q1)."""
    return Refusal(PROFILE.invalid_status, "invalid_request", detail, errors=faults)
