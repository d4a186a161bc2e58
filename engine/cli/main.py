"""Main: the global options, the verbs by name, and the one place where a failure becomes an exit code.

A verb's file is imported when that verb runs: help must be quick, and must load no network library.
"""

from __future__ import annotations

import contextlib
import difflib
import errno
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn

import click

from engine.cli.failures import exit_code_of, render
from engine.cli.invocation import Invocation
from engine.cli.output import PIPE_CLOSED, Paint, tell, wants_colour
from engine.version import __version__

# Verb -> where it lives, and what the list of verbs says about it.
VERBS: dict[str, tuple[str, str]] = {
    "init": ("engine.cli.init:init", "Write a pipeline that works, with rows and a test."),
    "plan": ("engine.cli.plan:plan", "Say what a run would do; connects to nothing."),
    "doctor": ("engine.cli.doctor:doctor", "Look at what a run needs of the world around it."),
    "run": ("engine.cli.run:run", "Run pipelines; an unfinished run is continued."),
    "check": ("engine.cli.check:check", "Find everything that is wrong with pipelines and settings."),
    "test": ("engine.cli.test:test", "Play the [[test]] blocks of pipelines on an emulator of their own."),
    "status": ("engine.cli.status:status", "Say how the pipelines stand: what runs, how it ended, what is open."),
    "jobs": ("engine.cli.jobs:jobs", "Look into the ledger of a pipeline; cancel and re-attach jobs."),
    "dlq": ("engine.cli.dlq:dlq", "Look at rows that did not make it, repair them, send them again."),
    "runs": ("engine.cli.runs:runs", "List and show past runs."),
    "top": ("engine.cli.top:top", "Show the runs that work now, and what sets their pace."),
    "tap": ("engine.cli.tap:tap", "Show rows of the runs that work now, at one stage of their way."),
    "call": ("engine.cli.call:call", "Call any route of the contract by name, JSON in and out."),
    "login": ("engine.cli.login:login", "Log in as a person, for `engine call`."),
    "token": ("engine.cli.token:token", "Show what a token says, or prove it with the platform's keys."),
    "verify": ("engine.cli.verify:verify", "Prove a token, webhook or chain of custody from files, asking nobody."),
    "contract": ("engine.cli.contract:contract", "Print the contract's routes and documents, and compare another one."),
    "emulator": ("engine.cli.emulator:emulator", "Serve the whole contract on loopback."),
    "chaos": ("engine.cli.chaos:chaos", "Kill and trouble pipelines, and check that nothing is lost or doubled."),
    "schema": ("engine.cli.schema:schema", "Print or write the JSON Schemas of the TOML files."),
    "docs": ("engine.cli.docs:docs", "Build, serve or print the documentation."),
    "explain": ("engine.cli.explain:explain", "Say what an error code means."),
    "config": ("engine.cli.config:config", "Show the settings as they hold, and where each comes from."),
    "completion": ("engine.cli.completion:completion", "Print the completion script of a shell."),
}


class Verbs(click.Group):
    """A group whose verbs are imported when used, and whose failures are rendered here."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The verbs, in the order they are met."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one verb."""
        if cmd_name not in VERBS:
            return None
        module, _, name = VERBS[cmd_name][0].partition(":")
        found: click.Command = getattr(import_module(module), name)
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a verb, or say which was probably meant."""
        if args and args[0] not in VERBS and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], VERBS, n=1)
            hint = f"; did you mean `{near[0]}`?" if near else ""
            ctx.fail(f"no such verb `{args[0]}`{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the verbs without importing them."""
        with formatter.section("Verbs"):
            formatter.write_dl([(name, told) for name, (_, told) in VERBS.items()])

    def main(self, args: Sequence[str] | None = None, prog_name: str | None = None, *_: Any, **extra: Any) -> Any:
        """Run, then leave with the exit code the outcome asks for."""
        if os.environ.get("_ENGINE_COMPLETE"):
            return super().main(args, prog_name, **extra)
        words = list(sys.argv[1:] if args is None else args)
        extra.pop("standalone_mode", None)
        sys.exit(self._outcome(words, prog_name or "engine", extra))

    def _outcome(self, words: list[str], prog_name: str, extra: dict[str, Any]) -> int:
        is_debug = "--debug" in words or os.environ.get("ENGINE_DEBUG", "0") not in ("", "0")
        try:
            with self.make_context(prog_name, list(words), **extra) as context:
                answer = self.invoke(context)
            sys.stdout.flush()
            return answer if isinstance(answer, int) else 0
        except click.exceptions.Exit as exc:
            return exc.exit_code
        except click.exceptions.NoArgsIsHelpError as exc:
            tell(exc.format_message())
            return exc.exit_code
        except (Exception, KeyboardInterrupt) as exc:  # noqa: BLE001 - the last stop: nothing goes on from here
            if isinstance(exc, OSError) and exc.errno == errno.EPIPE and not is_debug:
                return PIPE_CLOSED
            no_color = "--no-color" in words
            paint = Paint(is_on=wants_colour(sys.stderr, os.environ, no_color=no_color))
            if text := render(exc, paint, debug=is_debug):
                tell(text)
            return exit_code_of(exc)


def _pairs(_: click.Context, __: click.Parameter, texts: tuple[str, ...]) -> dict[str, str]:
    if not texts:
        return {}
    from engine.pipeline.layers import read_pair

    return dict(read_pair(text) for text in texts)


@click.group("engine", cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "--version", prog_name="engine")
@click.option("-c", "--config", metavar="FILE", help="Settings file.  [default: ./config.toml if there is one]")
@click.option(
    "--set",
    "pairs",
    metavar="KEY=VALUE",
    multiple=True,
    callback=_pairs,
    help="Override an option of the settings or of the pipeline; may be repeated.",
)
@click.option("--debug", is_flag=True, help="Show tracebacks (also ENGINE_DEBUG=1).")
@click.option("--no-color", is_flag=True, help="No colours (also NO_COLOR=1).")
@click.option("-v", "--verbose", count=True, help="More log lines; may be repeated.")
@click.option("-q", "--quiet", count=True, help="Fewer log lines; may be repeated.")
@click.pass_context
def cli(  # noqa: PLR0917 - click passes by name
    context: click.Context,
    config: str | None,
    pairs: dict[str, str],
    debug: bool,  # noqa: FBT001
    no_color: bool,  # noqa: FBT001
    verbose: int,
    quiet: int,
) -> None:
    """Move records through the Argus platform's asynchronous jobs and back, exactly once."""
    context.obj = Invocation(
        config=config,
        pairs=pairs,
        is_debug=debug or os.environ.get("ENGINE_DEBUG", "0") not in ("", "0"),
        no_color=no_color,
        verbosity=verbose - quiet,
    )


def _open_closed_streams() -> None:
    """Give a process that was started without standard streams (`2>&-`) silent ones.

    The first file it opens would get their number otherwise: a ledger must not be what others call standard error.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            with contextlib.suppress(OSError):
                os.fstat(number)
                continue
            os.dup2(os.open(os.devnull, os.O_RDWR), number)
            setattr(sys, name, os.fdopen(number, "r" if number == 0 else "w", closefd=False))


def main() -> NoReturn:
    """The console script."""
    _open_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure:
            # A terminal that cannot show a character shows a question mark, not a traceback.
            reconfigure(errors="replace")
    cli.main(prog_name="engine")
    raise SystemExit(0)
