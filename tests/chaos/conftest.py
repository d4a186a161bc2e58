"""One undisturbed run of the import pipeline, as processes, that all tests of the room compare with."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from engine.chaos.harness import Harness, Order, Undisturbed
from engine.chaos.plan import Kill, Round, Stage
from engine.chaos.scratch import Pipeline, Scratch
from engine.chaos.tally import Tally
from engine.pipeline.parse import load_pipeline

ROOT = Path(__file__).resolve().parents[2]
IMPORT = ROOT / "pipelines" / "import.toml"


class Calm(NamedTuple):
    """The pipeline, what it brings undisturbed, and a scratch directory in which it did."""

    pipeline: Pipeline
    undisturbed: Undisturbed
    scratch: Scratch


def order(directory: Path, **changed: Any) -> Order:
    """An order over the import pipeline."""
    pipeline = Pipeline(path=IMPORT, spec=load_pipeline(str(IMPORT), env={}))
    members = {"kills": 1, "seed": 1, "keep": True, "mischief": (), **changed}
    return Order(pipelines=(pipeline,), directory=directory, inputs=ROOT, **members)


@pytest.fixture(scope="session")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Calm:
    """Two undisturbed runs."""
    directory = tmp_path_factory.mktemp("chaos")
    asked = order(directory)
    undisturbed = asyncio.run(Harness(asked, tell=print)._undisturbed())
    return Calm(asked.pipelines[0], undisturbed, Scratch(directory / "undisturbed-two"))


PlayRound = Callable[..., Tally]


@pytest.fixture
def play_round(calm: Calm, tmp_path: Path) -> PlayRound:
    """Play one round with these kills, and answer what came of it."""

    def play(*kills: Kill, **members: Any) -> Tally:
        harness = Harness(order(tmp_path), tell=print)
        planned = {"number": 1, "seed": 1, "mischief": (), "overrides": {}, **members}
        stage = Stage(pipeline=0, kills=tuple(kills))
        asyncio.run(harness._play(Round(stages=(stage,), **planned), calm.undisturbed))
        return harness.tally

    return play
