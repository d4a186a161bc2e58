"""`engine docs build|serve|show`: the documentation, made from the code and from the pages in `engine/docs`."""

from __future__ import annotations

import contextlib
import signal
import tempfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import click

from engine.cli.output import emit, emit_json, plural, tell
from engine.errors import OutputError


@click.group()
def docs() -> None:
    """Build, serve or print the documentation.

    Example: engine docs show tutorial
    """


@docs.command()
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def build(*, directory: Path, as_json: bool) -> None:
    """Write the documentation into DIRECTORY as pages of HTML.

    Example: engine docs build site
    """
    from engine.cli.site import build as write

    try:
        count = write(directory)
    except OSError as exc:
        raise OutputError(f"{directory}: {(exc.strerror or 'cannot be written').lower()}") from exc
    if as_json:
        emit_json({"directory": str(directory), "pages": count})
        return
    tell(f"{plural(count, 'page')} in {directory}; open {directory / 'index.html'}")


@docs.command()
@click.option("--port", type=click.IntRange(0, 65_535), default=8000, show_default=True, help="0 is a free one.")
def serve(port: int) -> None:
    """Serve the documentation on loopback until Ctrl-C.

    Example: engine docs serve --port 0
    """
    from engine.cli.site import build as write

    for number in (signal.SIGINT, signal.SIGTERM):
        # Also where we were started with it ignored, as shells start what runs in the background.
        signal.signal(number, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="engine-docs-") as directory:
        write(Path(directory))
        server = ThreadingHTTPServer(("127.0.0.1", port), partial(_Quiet, directory=directory))
        with server, contextlib.suppress(KeyboardInterrupt):
            emit(f"http://127.0.0.1:{server.server_address[1]}/")
            server.serve_forever()


@docs.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def show(*, name: str, as_json: bool) -> None:
    """Print one page as text.

    Example: engine docs show codes
    """
    from engine.cli.site import texts

    found = texts()
    if name not in found:
        raise click.UsageError(f"no page `{name}`; pages: {', '.join(found)}")
    if as_json:
        emit_json({"page": name, "text": found[name]})
        return
    emit(found[name].rstrip())


class _Quiet(SimpleHTTPRequestHandler):
    """Files of one directory, without a line for each request."""

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing: stdout is for data, and nobody asked."""
