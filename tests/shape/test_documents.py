"""The documents: what README.md and engine/ARCHITECTURE.md say in tables is what the code says.

Each table is read under its own heading, so that a word elsewhere in the prose proves nothing. A row that is
missing is shown as it should stand.
"""

import ast
import re
import tomllib
from pathlib import Path

import pytest

from engine.cli.main import VERBS
from engine.cli.output import PIPE_CLOSED
from engine.cli.reference import options_of
from engine.components.catalog import SINKS, SOURCES, TRANSFORMS
from engine.contract.profile import PROFILE
from engine.errors import ERRORS, Exit
from engine.events import EVENTS
from engine.jobs.lifecycle import LEGAL
from engine.pipeline.findings import FINDINGS
from engine.pipeline.schema import SCHEMAS
from engine.store.notices import NOTICES_SCHEMA
from engine.store.schema import SCHEMA


def _section(text: str, heading: str) -> str:
    """What stands under a heading, up to the next heading of any level."""
    _, found, rest = text.partition(f"\n{heading}\n")
    assert found, f"no heading {heading!r}"
    return re.split(r"^#{1,4} ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def _rows(text: str, heading: str) -> list[list[str]]:
    """The cells of the tables under a heading, head and ruler left out."""
    lines = [line.strip() for line in _section(text, heading).splitlines() if line.lstrip().startswith("|")]
    rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip("|"))] for line in lines]
    rulers = [index for index, row in enumerate(rows) if all(set(cell) <= set("-: ") for cell in row)]
    heads = {index - 1 for index in rulers}
    return [row for index, row in enumerate(rows) if index not in heads and index not in rulers]


def _words(cell: str) -> list[str]:
    """The words in code marks."""
    return re.findall(r"`([^`]+)`", cell)


@pytest.fixture(scope="module")
def readme(root: Path) -> str:
    """The text of README.md."""
    return (root / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def architecture(root: Path) -> str:
    """The text of engine/ARCHITECTURE.md."""
    return (root / "engine" / "ARCHITECTURE.md").read_text(encoding="utf-8")


# README.md -----------------------------------------------------------------------------------


def test_readme_lists_every_verb(readme: str) -> None:
    """The table of commands names the verbs of the command line, all of them and no others."""
    named = {words[0].split()[1] for row in _rows(readme, "## Commands") if (words := _words(row[0]))}

    assert named == set(VERBS)


def test_readme_lists_every_exit_code(readme: str) -> None:
    """The table of exit codes holds each code that a command may end with, and no other."""
    named = {int(row[0].strip("`")) for row in _rows(readme, "## Exit codes")}
    codes = {value for name, value in vars(Exit).items() if name.isupper()}

    assert named == codes | {PIPE_CLOSED}


def test_readme_and_ci_run_the_same_tests(root: Path, readme: str) -> None:
    """The last command of .ci/run is, letter for letter, the test command on the README's first screen."""
    lines = (root / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    command = [line for line in lines if line.strip() and not line.lstrip().startswith("#")][-1]

    assert command in readme.splitlines()[:40]


def test_readme_lists_what_a_pipeline_may_name(readme: str) -> None:
    """Sources, transforms, job kinds and sinks in the README are those that are built in."""
    named = {row[0]: set(_words(row[1])) for row in _rows(readme, "### What it can be made of")}

    built_in = {"source": SOURCES, "transform": TRANSFORMS, "job kind": PROFILE.kinds, "sink": SINKS}
    assert named == {name: set(table) for name, table in built_in.items()}


# engine/ARCHITECTURE.md ----------------------------------------------------------------------


def _rooms(root: Path) -> set[str]:
    engine = root / "engine"
    rooms = {path.parent.relative_to(engine).as_posix() + "/" for path in engine.rglob("__init__.py")} - {"./"}
    files = {path.name for path in engine.glob("*.py") if not path.name.startswith("__")}
    return rooms | files


def test_every_room_is_in_the_table(root: Path, architecture: str) -> None:
    """The table that opens ARCHITECTURE.md names every room and every file beside them, and no others."""
    named = {word for row in _rows(architecture, "## Rooms") for word in _words(row[0])}

    assert named == _rooms(root)


def test_each_room_names_a_file_that_is_there(root: Path, architecture: str) -> None:
    """The file to read first exists."""
    firsts = [word for row in _rows(architecture, "## Rooms") for word in _words(row[2])]

    assert not [word for word in firsts if not (root / "engine" / word).is_file()]


def test_floors_are_drawn_as_they_are_enforced(root: Path, architecture: str) -> None:
    """The drawing of the floors has the lines of the import-linter contract, in its order."""
    config = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    layers = config["tool"]["importlinter"]["contracts"][0]["layers"]
    drawing = _section(architecture, "## Floors").split("```")[1].split("\n")[1:-1]

    drawn = [set(re.findall(r"[a-z]+", line.split("  ")[0])) for line in drawing]
    assert drawn == [set(re.findall(r"[a-z]+", layer)) for layer in layers]


def test_doors_are_listed_as_they_are_tested(root: Path, architecture: str) -> None:
    """The table of doors is the one that tests/shape/test_doors.py holds the imports to."""
    tree = ast.parse((root / "tests" / "shape" / "test_doors.py").read_text(encoding="utf-8"))
    doors = next(
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "DOORS"
    )
    listed = {name: set(_words(row[1])) for row in _rows(architecture, "## Doors") for name in _words(row[0])}

    assert listed == {name: {file.removeprefix("engine/") for file in files} for name, files in doors.items()}


def test_states_are_listed_as_the_lifecycle_allows(architecture: str) -> None:
    """The table of states has those of jobs/lifecycle.py, each with what may follow."""
    listed = {_words(row[0])[0]: set(_words(row[3])) for row in _rows(architecture, "### States")}

    assert listed == {state: set(following) for state, following in LEGAL.items()}


def test_every_table_of_the_ledger_is_explained(architecture: str) -> None:
    """Each table of the ledger's schema, and of its callbacks', has its row."""
    named = {_words(row[0])[0] for row in _rows(architecture, "## The ledger")}

    assert named == set(re.findall(r"CREATE TABLE IF NOT EXISTS (\w+)", SCHEMA + NOTICES_SCHEMA))


def test_every_error_code_is_in_the_table(architecture: str) -> None:
    """Each error code and each finding is listed, with the exit code and the retry verdict it carries."""
    listed = {(_words(row[0])[0], row[1], row[2]) for row in _rows(architecture, "### Error codes")}
    wanted = {(kind.code, str(kind.exit_code), kind.retry.value) for kind in ERRORS}
    wanted |= {(code, str(Exit.CONFIGURATION), "never") for code in FINDINGS}

    assert listed == wanted


def test_every_event_is_in_the_table_with_who_tells_it(root: Path, architecture: str) -> None:
    """Each event is listed, and the files said to tell it do."""
    rows = {_words(row[0])[0]: _words(row[2]) for row in _rows(architecture, "### Events")}

    assert set(rows) == {event.__name__ for event in EVENTS}
    silent = [
        f"{file} does not tell {event}"
        for event, files in rows.items()
        for file in files
        if f"{event}(" not in (root / "engine" / file).read_text(encoding="utf-8")
    ]
    assert not silent, "\n".join(silent)


@pytest.mark.parametrize(("which", "heading"), [("config", "### config.toml"), ("pipeline", "### Pipeline files")])
def test_every_option_is_in_the_table(which: str, heading: str, architecture: str) -> None:
    """Each option of the TOML files is listed with the words that its schema says of it."""
    listed = {f"| {row[0]} | {row[1]} |" for row in _rows(architecture, heading)}
    schema = SCHEMAS[which]()
    wanted = {f"| `{key}` | {said.replace('|', chr(92) + '|')} |" for key, said in options_of(schema)}

    assert not wanted - listed, "missing:\n" + "\n".join(sorted(wanted - listed))
    assert not listed - wanted, "not an option:\n" + "\n".join(sorted(listed - wanted))
