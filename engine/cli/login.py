"""`engine login`: a person's token from the platform, through the browser, kept for `engine call`.

The URL is shown, the token never.
"""

from __future__ import annotations

import threading
import webbrowser
from pathlib import Path

import click

from engine.cli.invocation import Invocation, pass_invocation
from engine.cli.output import emit, emit_json, tell
from engine.cli.run import on_loop


@click.command(epilog="Example:  engine login --no-browser")
@click.option("--no-browser", is_flag=True, help="Print the URL to open, and open nothing.")
@click.option("--wait", "wait_s", type=click.FloatRange(0.1, 3600), default=180.0, show_default=True, help="Seconds.")
@click.option("--forget", is_flag=True, help="Remove the token that is kept.")
@click.option("--json", "is_json", is_flag=True, help="End with one JSON object.")
@pass_invocation
def login(invocation: Invocation, *, no_browser: bool, wait_s: float, forget: bool, is_json: bool) -> None:
    """Log in as a person; `engine call` uses the token where no client credentials are configured."""
    settings = invocation.settings(needs_secret=False)
    if forget:
        from engine.store.login import forget_login

        is_forgotten = forget_login(Path(settings.state_dir))
        tell("the login is forgotten" if is_forgotten else "there was no login")
        if is_json:
            emit_json({"is_forgotten": is_forgotten})
        return
    from engine.access import log_in_person

    path = on_loop(
        lambda: log_in_person(settings, show=(tell if is_json else emit) if no_browser else _open, wait_s=wait_s)
    )
    tell(f"logged in; the token is kept in {path}")
    if is_json:
        emit_json({"kept_in": str(path)})


def _open(url: str) -> None:
    tell(f"opening a browser; if none appears, open this yourself:\n{url}")
    # On a thread that nobody waits for: a browser in the terminal returns only when it is closed.
    threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()
