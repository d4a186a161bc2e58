"""A distribution of somebody else's with a source, a sink and a transform, installed into a folder."""

from __future__ import annotations

from pathlib import Path

# A third-party source in a few lines: counts, and goes on after the number it was given.
_MODULE = '''
import json, pathlib

def count(pull):
    """Rows with the numbers up to `options.count`."""
    for number in range(int(pull.after or 0), pull.options["count"]):
        if pull.stop.is_set():
            return
        yield {"id": f"r{number}", "n": number}, str(number + 1)

def broken(pull):
    yield {"id": "r0"}, "1"
    raise KeyError("oh")

def odd(options):
    """A transform: drops even numbers."""
    def function(values):
        return [value if value["n"] % 2 else None for value in values]
    return function

class Folder:
    """A sink: a file of lines for each part."""

    def __init__(self, opening):
        self.path = pathlib.Path(opening.options["path"])
        self.path.mkdir(exist_ok=True)

    def encode(self, rows):
        import msgspec
        return b"".join(msgspec.json.encode(row) + b"\\n" for row in rows)

    def begin(self, *, epoch, number):
        return Part(self.path / f"{epoch}-{number}")

    def sweep(self, keep):
        doomed = [path for path in self.path.iterdir() if path.name not in keep]
        for path in doomed:
            path.unlink()
        return len(doomed)

    def write_manifest(self, document):
        return ""

class Part:
    def __init__(self, path):
        self.path, self.name, self.rows, self.body, self.refused, self.sha256 = path, path.name, 0, b"", (), ""

    @property
    def body_bytes(self):
        return len(self.body)

    def append(self, chunk, rows):
        self.body += chunk
        self.rows += rows

    def finish(self):
        self.path.write_bytes(self.body)
        return self

    def discard(self):
        self.body = b""
'''
_POINTS = """
[engine.sources]
counting = acme_plugin:count
broken = acme_plugin:broken
absent = acme_plugin:nothing
[engine.transforms]
odd = acme_plugin:odd
[engine.sinks]
folder = acme_plugin:Folder
"""


def install(folder: Path) -> Path:
    """Put the distribution there; the folder is to be on the path."""
    (folder / "acme_plugin.py").write_text(_MODULE)
    info = folder / "acme_plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(_POINTS)
    return folder
