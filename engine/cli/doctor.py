"""`engine doctor`: the world around a run, looked at before one is started; each finding with the next step."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import click

from engine.access import asking_also, open_access
from engine.cli.invocation import Invocation, pass_invocation
from engine.cli.output import Paint, emit, emit_json
from engine.cli.probes import (
    Check,
    failed,
    needs_of,
    probe_callback,
    probe_directory,
    probe_keys,
    probe_rights,
    probe_token,
    probe_way,
    skipped,
)
from engine.cli.rates import probe_rates
from engine.cli.run import on_loop
from engine.errors import EngineError, Exit
from engine.pipeline.spec import PipelineSpec
from engine.settings import Settings
from engine.transport.pooled import PooledTransport

_SIGNS = {"ok": "OK  ", "fail": "FAIL", "skip": "skip"}


@click.command(epilog="Example:  engine doctor people.toml")
@click.argument("files", nargs=-1, metavar="[FILE]…")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@pass_invocation
def doctor(invocation: Invocation, files: tuple[str, ...], as_json: bool) -> int:  # noqa: FBT001
    """Look at what a run needs: name, certificate, keys, clock, token, rights, rates, directories, room, callback.

    With pipeline FILEs, also whether the token may do what they ask, and what they write to. Exit 0 when all is
    well, else the code a run would end with.
    """
    settings, specs = invocation.load(files)
    checks = on_loop(lambda: examine(settings, list(zip(files, specs, strict=True))))
    bad = [check for check in checks if check.verdict == "fail"]
    if as_json:
        emit_json({"ok": not bad, "profile": settings.platform.profile, "checks": checks})
    else:
        width = max(len(check.name) for check in checks)
        for check in checks:
            emit("\n".join(_lines(check, width, invocation.paint_out())))
    return bad[0].exit if bad else Exit.DONE


async def examine(settings: Settings, pipelines: list[tuple[str, PipelineSpec]]) -> list[Check]:
    """Every check that these settings and pipelines call for, in the order in which a run needs them."""
    specs = [spec for _, spec in pipelines]
    checks = probe_directory("state", Path(settings.state_dir))
    for spec in specs:
        if spec.sink.type != "platform":
            checks += probe_directory(f"sink {spec.name}", Path(spec.sink.path))
    if specs and not any(spec.needs_platform for spec in specs):
        return [*checks, skipped("platform", "these pipelines ask nothing of one")]
    needs = needs_of(specs)
    asked = asking_also(settings, needs)
    async with AsyncExitStack() as stack:
        try:
            access, _ = await open_access(asked, stack)
        except EngineError as exc:
            return [*checks, failed("platform", exc)]
        pool = PooledTransport(concurrency=4)
        stack.push_async_callback(pool.aclose)
        for name, url in {"auth": access.auth_url, "api": access.api_url}.items():
            if name == "auth" or url != access.auth_url:
                checks += await probe_way(name, url)
        found, keyring = await probe_keys(access, pool)
        token, claims = await probe_token(access, pool, keyring)
        checks += [*found, token, probe_rights(claims, needs.items())]
        checks.append(await probe_rates(access, pool, keyring, claims, ours=settings.platform.requests_per_s))
        for path, spec in pipelines:
            if spec.callback is not None:
                checks.append(await probe_callback(spec.callback, path, settings.platform.profile, pool))
    return checks


def _lines(check: Check, width: int, paint: Paint) -> list[str]:
    dress = {"ok": paint.good, "fail": paint.bad, "skip": paint.dim}[check.verdict]
    lines = [f"{dress(_SIGNS[check.verdict])}  {check.name:<{width}}  {check.found}"]
    if check.verdict == "fail" and check.hint:
        lines.append(f"      {'':<{width}}  {paint.dim('next:')} {check.hint}")
    return lines
