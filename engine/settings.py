"""Settings: `config.toml` as types, and the secret that cannot be printed.

Only the shape and its defaults; reading files, the environment and `${…}` references is
`pipeline.parse`'s work. Durations are seconds, sizes bytes, rates per second, shares fractions; a field's
unit is in its type, so that the parser converts and the JSON Schema says what may be written.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from engine.contract.profile import PROFILE

# The unit a value is written with in TOML; `pipeline.units` knows how to read each.
Seconds = Annotated[float, Meta(extra={"unit": "duration"})]
Bytes = Annotated[int, Meta(extra={"unit": "size"})]
PerSecond = Annotated[float, Meta(extra={"unit": "rate"})]
Fraction = Annotated[float, Meta(extra={"unit": "fraction"}, ge=0, le=1)]


class Secret:
    """A value that never shows itself: not in `repr`, `str`, format, JSON or an exception.

    `reveal()` is the one way to the text; call it where the bytes leave for their one purpose.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself."""
        return self._text

    def __repr__(self) -> str:
        return "Secret(***)"

    def __str__(self) -> str:
        return "***"

    def __format__(self, spec: str) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(("Secret", self._text))

    def __bool__(self) -> bool:
        return bool(self._text)

    def __reduce__(self) -> Any:
        raise TypeError("a Secret cannot be pickled")


class EmulatorSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[platform.emulator]`. With `url` an emulator that stands alone is used, else one is started for the run."""

    url: Annotated[
        str | None, Meta(description="Of an emulator that runs already; without it one is started per run.")
    ] = None
    sandbox_url: Annotated[str | None, Meta(description="Of that emulator's sandbox origin.")] = None
    faults: Annotated[str | None, Meta(description="A fault script.")] = None
    latency: Annotated[Seconds, Meta(description="Median duration of a job.", ge=0)] | None = None
    seed: Annotated[int | None, Meta(description="Makes the emulator's choices repeatable.")] = None
    requests: (
        Annotated[PerSecond, Meta(description="Ceiling of requests; [platform.limits] has none here.", gt=0)] | None
    ) = None


class SandboxSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[platform.sandbox]`: a token minted by an administrator, or one we may mint ourselves."""

    auth_url: Annotated[str, Meta(description="Where tokens and keys come from.")] = "https://auth.knogin.com"
    api_url: Annotated[str, Meta(description="The sandbox host.")] = "https://sandbox-api.knogin.com"
    docs_url: Annotated[str, Meta(description="Where the documents are.")] = "https://knogin.com"
    token: Annotated[
        Secret | None, Meta(description="Minted by an administrator; without it client id and secret are used.")
    ] = None


class LiveSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[platform.live]`."""

    auth_url: Annotated[str, Meta(description="Where tokens and keys come from.")] = "https://auth.knogin.com"
    api_url: Annotated[str, Meta(description="The live host.")] = "https://api.knogin.com"
    docs_url: Annotated[str, Meta(description="Where the documents are.")] = "https://knogin.com"
    issuer: Annotated[str | None, Meta(description="Expected `iss` of tokens, unless the contract's.")] = None
    audience: Annotated[str | None, Meta(description="Expected `aud` of tokens, unless the contract's.")] = None


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[platform.limits]`: ceilings of the account, shared by all pipelines.

    `requests` protects a real account, so it does not bind the emulator, which has a ceiling of its own
    (`[platform.emulator] requests`); ask `Platform.requests_per_s`, which knows the profile.
    """

    requests: (
        Annotated[PerSecond, Meta(description="Most requests; none without it. Not for the emulator.", gt=0)] | None
    ) = None
    jobs_in_flight: Annotated[int, Meta(description="Most remote jobs at once.", ge=1)] = 500
    concurrency: Annotated[int, Meta(description="Most requests on the wire at once.", ge=1, le=10_000)] = 32


class Platform(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[platform]`: where, and as whom."""

    profile: Annotated[Literal["emulator", "sandbox", "live"], Meta(description="Which platform a run talks to.")] = (
        "emulator"
    )
    client_id: Annotated[str | None, Meta(description="OAuth client credentials; the emulator reads neither.")] = None
    client_secret: Annotated[Secret | None, Meta(description="A reference: ${secret:file:…}.")] = None
    scopes: Annotated[tuple[str, ...], Meta(description="Asked for with every token.")] = (
        PROFILE.jobs_read_scopes[0],
        PROFILE.jobs_write_scopes[0],
    )
    timeout: Annotated[Seconds, Meta(description="Deadline of one request.", gt=0)] = 30.0
    patience: Annotated[
        Seconds, Meta(description="Longest outage that a run waits out before it ends, resumable (exit 7).", ge=0)
    ] = 600.0
    transport: Annotated[
        Literal["direct", "aiohttp"],
        Meta(description="Who carries requests that need no proxy: the engine, or aiohttp."),
    ] = "direct"
    emulator: EmulatorSettings = EmulatorSettings()
    sandbox: SandboxSettings = SandboxSettings()
    live: LiveSettings = LiveSettings()
    limits: Limits = Limits()

    @property
    def requests_per_s(self) -> float | None:
        """The ceiling of requests that binds the chosen profile; None is no ceiling."""
        return self.emulator.requests if self.profile == "emulator" else self.limits.requests


class TelemetrySettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[telemetry]`: `otlp` is a collector's base URL (http); the OTEL_* environment is read as well."""

    otlp: Annotated[str | None, Meta(description="Base URL of a collector, http.")] = None
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="Least severe line that is logged.")
    ] = "info"
    log_format: Annotated[Literal["text", "json"], Meta(description="Of log and progress lines.")] = "text"


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything `config.toml` says."""

    version: Annotated[int, Meta(description="Of this format; 1.", ge=1, le=1)] = 1
    state_dir: Annotated[str, Meta(description="Where ledgers, dead letters and schemas live.")] = ".engine"
    platform: Platform = Platform()
    telemetry: TelemetrySettings = TelemetrySettings()
