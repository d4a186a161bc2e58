"""Dependency floors: what requirements.lock pins is safe, complete, hashed, and names no host."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

PIN = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^\s;\\]+)", re.MULTILINE)


@pytest.fixture(scope="module")
def lock(root: Path) -> str:
    """The text of requirements.lock."""
    return (root / "requirements.lock").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def pins(lock: str) -> dict[str, set[Version]]:
    """Each locked package with its versions: more than one where Python versions need different ones."""
    found: dict[str, set[Version]] = {}
    for pin in PIN.finditer(lock):
        found.setdefault(canonicalize_name(pin["name"]), set()).add(Version(pin["version"]))
    return found


@pytest.fixture(scope="module")
def project(root: Path) -> dict:
    """The parsed pyproject.toml."""
    return tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))


def _asked(project: dict) -> list[Requirement]:
    """Everything the project asks for by name: core, extras and the dev group, itself left out.

    Whom the benchmarks measure against is no part of it: none of them is shipped, tested with or locked.
    """
    table = project["project"]
    lines = [*table["dependencies"], *project["dependency-groups"]["dev"]]
    lines += [line for name, extra in table["optional-dependencies"].items() if name != "bench" for line in extra]
    return [asked for line in lines if (asked := Requirement(line)).name != table["name"]]


def test_no_pin_is_under_its_floor(root: Path, pins: dict[str, set[Version]]) -> None:
    """No locked library is older than the version that mended its known flaws."""
    floors = tomllib.loads((root / "tests" / "shape" / "floors.toml").read_text(encoding="utf-8"))

    under = [
        f"{name} {version} is under {row['floor']}: {row['why']}"
        for name, row in floors.items()
        for version in pins.get(canonicalize_name(name), set())
        if version < Version(row["floor"])
    ]

    assert not under, "\n".join(under)


def test_pyproject_allows_nothing_under_a_floor(root: Path, project: dict) -> None:
    """A range in pyproject.toml starts at the floor or above it: installs without the lock are safe too."""
    floors = tomllib.loads((root / "tests" / "shape" / "floors.toml").read_text(encoding="utf-8"))
    lowest = {
        canonicalize_name(asked.name): Version(bound.version)
        for asked in _asked(project)
        for bound in asked.specifier
        if bound.operator == ">="
    }

    under = [name for name, row in floors.items() if lowest.get(name, Version("0")) < Version(row["floor"])]

    assert not under


def test_the_lock_answers_pyproject(project: dict, pins: dict[str, set[Version]]) -> None:
    """Everything that pyproject.toml asks for is locked, at a version inside its range."""
    stale = [
        str(asked)
        for asked in _asked(project)
        if not (versions := pins.get(canonicalize_name(asked.name), set()))
        or not all(asked.specifier.contains(version) for version in versions)
    ]

    assert not stale, f"make requirements.lock again: {stale}"


def test_every_pin_is_hashed(lock: str, pins: dict[str, set[Version]]) -> None:
    """Each pin carries at least one SHA-256, so a swapped file is refused at install."""
    entries = re.split(r"^(?=[A-Za-z0-9])", lock, flags=re.MULTILINE)[1:]

    assert pins
    assert len(entries) == sum(len(versions) for versions in pins.values())
    assert not [entry.partition(" ")[0] for entry in entries if "--hash=sha256:" not in entry]


def test_the_lock_names_no_host(lock: str) -> None:
    """The lock holds no address and no index, so it installs from wherever the user installs from."""
    assert not re.search(r"https?:|://|--(extra-)?index-url|--find-links|^-[ef]\b", lock, re.MULTILINE)
