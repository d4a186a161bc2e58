"""The tree of failures: what can go wrong, who must act, and whether trying again helps.

Every class carries a stable `code`, an exit code for the run it ends, a retry verdict that
`retry.decide` reads, and a `hint`: the next step for a human. Nothing here does I/O, formats for
a terminal, or knows a library; foreign exceptions are translated into these at the doors.
"""

from __future__ import annotations

from enum import Enum
from typing import Any, ClassVar


class Retry(Enum):
    """What a failure says about asking again."""

    NEVER = "never"
    SOON = "soon"
    LATER = "later"
    HALT = "halt"


class Exit:
    """Exit codes of the command line, as operators script against them."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    CONFIGURATION = 3
    CREDENTIALS = 4
    OVER_BUDGET = 5
    UNBALANCED = 6
    REMOTE = 7
    INPUT = 65
    SOFTWARE = 70
    OUTPUT = 73
    INTERRUPTED = 75
    FORCED = 130


class EngineError(Exception):
    """Something the engine can name.

    `message` says what happened and where; `hint` what to do next; `facts` are the data behind
    the sentence (a status, a path, a job id), for logs and for `--json`. Never put a secret or a
    record's content into any of them.
    """

    code: ClassVar[str] = "engine.error"
    retry: ClassVar[Retry] = Retry.NEVER
    exit_code: ClassVar[int] = Exit.FAILED
    default_hint: ClassVar[str] = ""

    def __init__(self, message: str, *, hint: str | None = None, **facts: Any) -> None:
        super().__init__(message)
        self.message = message
        self.hint = self.default_hint if hint is None else hint
        self.facts = facts

    def __str__(self) -> str:
        return f"{self.message} [{self.code}]"


# The author of the TOML ----------------------------------------------------------------------
class ConfigError(EngineError):
    """A configuration or pipeline file asks for something that cannot be."""

    code = "config.invalid"
    exit_code = Exit.CONFIGURATION


class Finding(EngineError):
    """One fault at one place of a configuration file; lines and columns count from 1."""

    code = "config.finding"
    exit_code = Exit.CONFIGURATION

    def __init__(
        self, message: str, *, code: str, path: str, line: int = 0, column: int = 0, hint: str = "", **facts: Any
    ) -> None:
        super().__init__(message, hint=hint, **facts)
        self.finding_code = code
        self.path = path
        self.line = line
        self.column = column

    def __str__(self) -> str:
        return f"{self.path}:{self.line}:{self.column}: {self.message} [{self.finding_code}]"


class PlanError(ConfigError):
    """Everything that is wrong with the files of a run, found in one go, in order of position."""

    code = "config.findings"

    def __init__(self, findings: list[Finding]) -> None:
        super().__init__("\n".join(str(finding) for finding in findings))
        self.findings = findings


class MissingExtra(ConfigError):
    """An optional library is needed and not installed."""

    code = "config.missing_extra"

    def __init__(self, *, need: str, extra: str) -> None:
        super().__init__(
            f"{need} needs the extra `{extra}`, which is not installed",
            hint=f'in the checkout: pip install -e ".[{extra}]"   or: uv sync --extra {extra}',
            extra=extra,
        )


# This record ---------------------------------------------------------------------------------
class RecordError(EngineError):
    """One record cannot go on; it becomes a dead letter and the others continue."""

    code = "record.invalid"


class PartialFailure(RecordError):
    """Some records of a batch failed; `failures` maps the index in the batch to the reason."""

    code = "record.partial"

    def __init__(self, message: str, *, failures: dict[int, str]) -> None:
        super().__init__(message)
        self.failures = failures


class CapExceeded(RecordError):
    """Foreign bytes are larger, deeper or denser than the cap that keeps memory bounded."""

    code = "record.cap"


# The network ---------------------------------------------------------------------------------
class TransportError(EngineError):
    """No complete answer came back; whether the request had its effect is unknown."""

    code = "transport.failed"
    retry = Retry.SOON
    exit_code = Exit.REMOTE


class ConnectFailed(TransportError):
    """No connection was made, so the request had no effect."""

    code = "transport.connect"
    default_hint = "check the host in config.toml, and that it can be reached from here"


class CertificateRefused(TransportError):
    """The host's certificate or TLS is not to be trusted: trying again would only ask the same impostor."""

    code = "transport.certificate"
    retry = Retry.HALT
    default_hint = "check the host's certificate chain; SSL_CERT_FILE names a private authority"


class TimedOut(TransportError):
    """The deadline passed before the answer was complete."""

    code = "transport.timeout"


class BrokenAnswer(TransportError):
    """An answer began and was cut, damaged, or not of the promised form."""

    code = "transport.broken"


class OutOfPatience(TransportError):
    """The platform did not come back for as long as `platform.patience` allows; nothing is lost by stopping."""

    code = "transport.patience"
    retry = Retry.HALT
    default_hint = "run it again to go on where it stopped; `patience` in [platform] says how long an outage may last"


# The platform said no ------------------------------------------------------------------------
class PlatformError(EngineError):
    """The platform answered, and the answer is a refusal; `facts` hold status, code and trace id."""

    code = "platform.error"
    exit_code = Exit.REMOTE

    def __init__(
        self,
        message: str,
        *,
        status: int,
        hint: str | None = None,
        retry_after_s: float | None = None,
        **facts: Any,
    ) -> None:
        super().__init__(message, hint=hint, status=status, **facts)
        self.status = status
        self.retry_after_s = retry_after_s


class Refused(PlatformError):
    """401 or 403: the credentials, or what they may do, are not enough."""

    code = "platform.refused"
    retry = Retry.HALT
    exit_code = Exit.CREDENTIALS
    default_hint = "check client id, secret and scopes in config.toml"


class Missing(PlatformError):
    """404 or 410: no such thing for this tenant, or no longer."""

    code = "platform.missing"


class Rejected(PlatformError):
    """400, 413 or 422: the request itself is at fault, so sending it again cannot help."""

    code = "platform.rejected"


class Conflict(PlatformError):
    """409 or 412: the thing is not in the state the request needs."""

    code = "platform.conflict"


class Throttled(PlatformError):
    """429: slow down. `retry_after_s` is the platform's own figure, if it gave one; asking sooner extends it."""

    code = "platform.throttled"
    retry = Retry.LATER


class Unavailable(PlatformError):
    """5xx: the platform cannot answer now."""

    code = "platform.unavailable"
    retry = Retry.LATER


# Proofs --------------------------------------------------------------------------------------
class TrustError(EngineError):
    """A token or signature does not prove what it claims; trying again never helps."""

    code = "trust.failed"
    exit_code = Exit.CREDENTIALS


class MalformedToken(TrustError):
    """Not a compact RS256 JWS, or its parts are not what the contract says."""

    code = "trust.malformed"


class AlgorithmRefused(TrustError):
    """The token names an algorithm other than RS256, `none` included."""

    code = "trust.algorithm"


class UnknownKey(TrustError):
    """No key of the issuer's key set has this `kid`."""

    code = "trust.unknown_key"


class BadSignature(TrustError):
    """The signature does not match the bytes."""

    code = "trust.signature"


class ExpiredToken(TrustError):
    """`exp` has passed, beyond the allowed clock skew."""

    code = "trust.expired"


class NotYetValid(TrustError):
    """`nbf` or `iat` lies in the future, beyond the allowed clock skew."""

    code = "trust.not_yet_valid"


class WrongIssuer(TrustError):
    """`iss` is not the issuer we trust."""

    code = "trust.issuer"


class WrongAudience(TrustError):
    """`aud` does not name the audience this token is used for."""

    code = "trust.audience"


class ClaimMissing(TrustError):
    """A claim the contract requires is absent or of the wrong type."""

    code = "trust.claim"


class AddressRefused(TrustError):
    """A URL that somebody else gave us leads to an address that is not on the public internet."""

    code = "trust.address"


class BrokenProof(TrustError):
    """A chain, root or digest does not hold together."""

    code = "trust.proof"


# The operator --------------------------------------------------------------------------------
class StateError(EngineError):
    """The state directory is not in a condition to run on."""

    code = "state.invalid"
    exit_code = Exit.INTERRUPTED


class LedgerBusy(StateError):
    """Another process runs this pipeline."""

    code = "state.busy"


class NothingSuch(StateError):
    """There is no run, job or ledger of the name that was asked for."""

    code = "state.unknown"
    exit_code = Exit.USAGE


class LedgerBroken(StateError):
    """The ledger file cannot be used: damaged, of another version, or of another pipeline."""

    code = "state.broken"
    exit_code = Exit.OUTPUT


class DiskFull(StateError):
    """A disk had no room, or took no writes, until a stop was asked for; nothing is lost."""

    code = "state.disk"


class StaleCheckpoint(StateError):
    """The input is no longer the one the ledger's position points into."""

    code = "state.stale_input"
    exit_code = Exit.INPUT


class InputError(EngineError):
    """An input as a whole cannot be read."""

    code = "input.unreadable"
    exit_code = Exit.INPUT


class OutputError(EngineError):
    """An output cannot be written."""

    code = "output.unwritable"
    exit_code = Exit.OUTPUT


# The run -------------------------------------------------------------------------------------
class Unbalanced(EngineError):
    """The books do not balance: a row is unaccounted for, or the platform counts differently."""

    code = "run.unbalanced"
    exit_code = Exit.UNBALANCED


class RunFailed(EngineError):
    """What a run raises: every cause, never a bare exception group; `report` is the account so far, if any."""

    code = "run.failed"

    def __init__(self, message: str, *, pipeline: str, causes: list[EngineError]) -> None:
        super().__init__(message, pipeline=pipeline)
        self.pipeline = pipeline
        self.causes = causes
        self.exit = causes[0].exit_code if causes else Exit.FAILED
        self.report: Any = None


def _below(kind: type[EngineError]) -> list[type[EngineError]]:
    return [found for child in kind.__subclasses__() for found in (child, *_below(child))]


ERRORS: tuple[type[EngineError], ...] = tuple(_below(EngineError))
