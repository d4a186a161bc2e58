"""Starting: what `engine init --profile` writes beside a pipeline: settings, names to fill in, and a fault script.

Text only; writing it is the verb's. The settings name no value: what is secret or of one machine is a reference.
"""

from __future__ import annotations

import msgspec


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """The lines of `[platform]` and of `.env.example` for one profile, and what is to be done before a run."""

    settings: str
    env: str
    steps: tuple[str, ...] = ()


_FILL_IN = "cp .env.example .env"
_HEAD = """\
#:schema .engine/schema/config.v1.json
# Where the platform is, and as whom we speak to it. What is moved is in the pipeline files.
# Flags (--set platform.profile=live) and environment (ENGINE__PLATFORM__PROFILE=live) go before this file.
version   = 1
state_dir = ".engine/{profile}"   # a ledger belongs to the platform its jobs are at

[platform]
profile = "{profile}"   # emulator | sandbox | live
"""
_LIMITS = """
[platform.limits]                          # ceilings of the account
requests       = "10/s"
jobs_in_flight = 500
"""
_TELEMETRY = """
[telemetry]
otlp = "${env:OTEL_EXPORTER_OTLP_ENDPOINT?}"   # where spans go; may be unset
"""
_ENV_HEAD = """\
# Names that config.toml refers to. Copy this file to .env, fill it in, keep it out of version control.
# OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318
"""

# What an emulator does to the pipeline when it is told to: the same rules as a [[test]] block may have in `faults`.
FAULTS = """\
# A script of mischief:  engine --set platform.emulator.faults={name}.faults.toml run {name}.toml
# Whatever it does, no row is lost and none comes twice. `seed` makes chance repeat itself.
seed = 7

[[fault]]                                  # the answer to a create is lost after the job was made
at    = "response"
route = "jobs.create"
drop  = true
count = 1

[[fault]]                                  # the platform pushes back
at          = "request"
route       = "jobs.get"
status      = 429
retry_after = 1
count       = 1
"""

STARTS: dict[str, Start] = {
    "emulator": Start(
        settings="\n[platform.emulator]                        # started for each run; no account is needed\n"
        '# faults = "{name}.faults.toml"           # a script of mischief\n',
        env="# The emulator needs none of them.\n",
    ),
    "sandbox": Start(
        settings='\n[platform.sandbox]\ntoken = "${secret:env:ARGUS_SANDBOX_TOKEN}"   # minted by an administrator\n'
        + _LIMITS,
        env="ARGUS_SANDBOX_TOKEN=\n",
        steps=(_FILL_IN,),
    ),
    "live": Start(
        settings='client_id     = "${env:ARGUS_CLIENT_ID}"\nclient_secret = "${secret:env:ARGUS_CLIENT_SECRET}"\n'
        'scopes        = ["argus:jobs:read", "argus:jobs:write"]\n' + _LIMITS,
        env="ARGUS_CLIENT_ID=\nARGUS_CLIENT_SECRET=\n",
        steps=(_FILL_IN,),
    ),
}


def files_of(profile: str, name: str) -> dict[str, str]:
    """File names and texts for a pipeline of this name; `config.toml` and `.env.example` serve several pipelines."""
    start = STARTS[profile]

    def filled(text: str) -> str:
        return text.replace("{profile}", profile).replace("{name}", name)

    return {
        "config.toml": filled(_HEAD + start.settings + _TELEMETRY),
        ".env.example": _ENV_HEAD + start.env,
        f"{name}.faults.toml": filled(FAULTS),
    }
