"""`engine init`: what it writes works right away, is right in every option, and never replaces anything."""

import json
import tomllib

import pytest

from engine.errors import Exit
from engine.pipeline.parse import load_pipeline
from engine.pipeline.template import TEMPLATES, meaning_of, pipeline_text

# Tables whose keys are the user's own.
FREE = {"[source.fields]", "[results.fields]", "[job.payload]"}


@pytest.mark.parametrize("kind", TEMPLATES)
def test_what_is_written_is_right_tested_and_runs(engine, spawn, folder, kind) -> None:
    """In a folder without it: init, then check, test and run as it proposes, each with exit 0."""
    told = json.loads(engine("init", "fresh", "--kind", kind, "--json").stdout)

    assert told["files"] == ["fresh.toml", "fresh.csv"]
    for step in told["next"]:
        assert step.startswith("engine ")
        process = spawn(*step.split()[1:])
        out, err = process.communicate(timeout=100)
        assert process.returncode == 0, out + err
        if " run " in step:
            assert "3 rows in" in out


def test_nothing_is_ever_overwritten(engine, folder) -> None:
    """One file of the name is enough to refuse: the other is not written either, and both stay as they are."""
    (folder / "people.csv").write_text("mine")
    before = (folder / "people.toml").read_bytes()

    answer = engine("init")

    assert answer.exit_code == Exit.OUTPUT
    assert "already there" in answer.stderr
    assert (folder / "people.csv").read_text() == "mine"
    assert (folder / "people.toml").read_bytes() == before

    (folder / "gone.toml").symlink_to(folder / "nowhere")
    assert engine("init", "gone").exit_code == Exit.OUTPUT
    assert not (folder / "nowhere").exists()


@pytest.mark.parametrize("name", ["../x", "People", "", "a/b"])
def test_a_name_is_a_name(engine, name) -> None:
    """What cannot name a pipeline is a usage error."""
    assert engine("init", name).exit_code == Exit.USAGE


@pytest.mark.parametrize("kind", TEMPLATES)
def test_every_option_of_a_template_is_known_and_explained(folder, kind) -> None:
    """Each option is one of the spec's, with the spec's own words beside it; those that are off would be right too."""
    template = TEMPLATES[kind]
    text = pipeline_text(template, "all")

    for table in template.tables:
        for line in table.lines:
            if table.header not in FREE:
                assert meaning_of(table.header, line.key) or line.remark, (table.header, line.key)
            if not line.remark and (said := meaning_of(table.header, line.key)):
                assert said in text
            text = text.replace(f"# {line.key}", line.key) if line.is_off else text

    (folder / "all.toml").write_text(text)
    spec = load_pipeline("all.toml", env={})
    assert spec.test
    assert set(tomllib.loads(text)) <= set(type(spec).__struct_fields__)
