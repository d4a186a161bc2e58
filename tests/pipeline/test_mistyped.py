"""Mistyped keys: each key of each shipped file, spoilt one at a time, is found with what was meant."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.contract.profile import PROFILE
from engine.emulator.crafts import CRAFTS
from engine.errors import Finding, PlanError
from engine.pipeline.locate import KeyPath, Spot, locate
from engine.pipeline.parse import load_pipeline, load_settings

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = [*sorted((ROOT / "pipelines").glob("*.toml")), ROOT / "config.toml"]
# Tables whose keys are the user's own words: nobody can say how they should be spelt. Those of a fault script are
# the emulator's, and `engine check` asks it (tests/cli/test_rehearsal.py).
FREE = {"fields", "values", "members", "mapping", "rows", "faults"}


def _swapped(word: str) -> str:
    """The last two letters the wrong way round."""
    return word[:-2] + word[-1] + word[-2] if word[-1] != word[-2] else word[:-3] + word[-2] + word[-3] + word[-1]


MISTAKES: dict[str, Callable[[str], str]] = {
    "two letters swapped": _swapped,
    "a letter twice": lambda word: word[:1] + word,
    "a letter forgotten": lambda word: word[:1] + word[2:],
    "a capital letter": str.capitalize,
}


def _known_keys(text: str) -> Iterator[tuple[KeyPath, Spot]]:
    for at, spot in locate(text).items():
        if isinstance(at[-1], str) and not any(part in FREE for part in at[:-1]):
            yield at, spot


def _spoilt(text: str, spot: Spot, key: str, wrong: str) -> tuple[str, int]:
    """The text with this one key misspelt, and where the finding should point to on its line."""
    lines = text.split("\n")
    line, start = lines[spot.line - 1], spot.column - 1
    # The spot of a table is its whole header: `[results.fields]` is spoilt in its last word.
    at = line.index(key, start) if line[start] != "[" else line.rindex(key, start, start + spot.length)
    lines[spot.line - 1] = line[:at] + wrong + line[at + len(key) :]
    return "\n".join(lines), spot.column


def _findings(path: Path) -> list[Finding]:
    try:
        if path.name == "config.toml":
            load_settings(path.name, env={})
        else:
            load_pipeline(path.name, env={})
    except PlanError as exc:
        return exc.findings
    return []


@pytest.mark.parametrize("mistake", MISTAKES)
@pytest.mark.parametrize("shipped", SHIPPED, ids=lambda path: path.name)
def test_a_mistyped_key_is_found_with_what_was_meant(shipped, mistake, tmp_path) -> None:
    """Whichever key is spoilt: one finding, at that key, and it names the key that was meant."""
    path = Path(shutil.copy(shipped, tmp_path))
    text = shipped.read_text(encoding="utf-8")
    tried = 0

    for at, spot in _known_keys(text):
        key = str(at[-1])
        wrong = MISTAKES[mistake](key)
        if len(wrong) < 2:
            continue
        spoilt, column = _spoilt(text, spot, key, wrong)
        path.write_text(spoilt, encoding="utf-8")

        found = _findings(path)

        said = [(one.finding_code, one.line, one.column, one.hint) for one in found]
        assert said == [("config.unknown_key", spot.line, column, f"did you mean `{key}`?")], (at, wrong)
        tried += 1

    assert tried >= 10


@pytest.mark.parametrize("shipped", SHIPPED, ids=lambda path: path.name)
def test_the_shipped_files_themselves_are_right(shipped, tmp_path) -> None:
    """As they are shipped, none of them has a finding."""
    assert _findings(Path(shutil.copy(shipped, tmp_path))) == []


def test_what_stands_under_a_misspelt_key_is_judged_too(findings, good) -> None:
    """A table whose name is misspelt still has its own keys judged, and is not said to be missing."""
    found = findings(good.replace("[source]", "[sorce]").replace('key = "profile_id"', 'key = 1\nfild = "x"'))

    assert [(one.finding_code, one.line, one.facts["key"]) for one in found] == [
        ("config.unknown_key", 4, "sorce"),
        ("config.type", 7, "sorce.key"),
        ("config.unknown_key", 8, "sorce.fild"),
    ]


@pytest.mark.parametrize("kind", PROFILE.kinds)
def test_payload_members_are_those_that_the_emulator_reads(kind) -> None:
    """What a kind says of its payload is what the emulator's own type of that payload has."""
    assert set(PROFILE.kinds[kind].members) == set(CRAFTS[kind].payload.__struct_fields__)


def test_a_payload_member_that_resembles_none_is_let_through(findings, good) -> None:
    """The vendor's documents leave the payload open, so only a slip is a finding."""
    assert findings(good + "[job.payload]\nweather = 1\n") == []
    (found,) = findings(good + "[job.payload]\nforec = true\n")
    assert (found.line, found.hint) == (16, "did you mean `force`?")


def test_what_a_profile_does_not_use_is_not_read_under_a_slip_either(settings_of) -> None:
    """References under `[platfrom]` are followed or not as those of `[platform]` are: one finding, not three."""
    with pytest.raises(PlanError) as caught:
        settings_of('[platfrom]\nclient_id = "${env:NOT_SET}"\n')

    assert [found.finding_code for found in caught.value.findings] == ["config.unknown_key"]
