"""Finishing: the pipeline as an unfinished run was planned with, where its file has changed since."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from engine.pipeline.parse import load_pipeline
from engine.pipeline.spec import PipelineSpec
from engine.runtime.opening import settings_digest
from engine.settings import Settings
from engine.store.reading import Glance


def old_spec(settings: Settings, spec: PipelineSpec) -> PipelineSpec | None:
    """What the file said when the unfinished run was planned; None where nothing is unfinished, or nothing changed.

    Raises:
        PlanError: it can no longer be read, because what it refers to is gone.
    """
    directory = Path(settings.state_dir) / spec.name
    if not (directory / "ledger.sqlite").is_file():
        return None
    with Glance(directory) as glance:
        text = glance.unfinished_text(settings_digest(spec))
    if text is None:
        return None
    with tempfile.NamedTemporaryFile("w", suffix=".toml", dir=directory, encoding="utf-8") as file:
        file.write(text)
        file.flush()
        return load_pipeline(file.name, env=os.environ)
