"""Invocation: what the global options said, and the settings and pipelines a verb gets from them."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from engine.cli.output import Paint, wants_colour

if TYPE_CHECKING:
    from engine.errors import Finding
    from engine.pipeline.spec import PipelineSpec
    from engine.settings import EmulatorSettings, Settings

DEFAULT_CONFIG = "config.toml"
_LEVELS = ("error", "warning", "info", "debug")


class Invocation:
    """The options before the verb. `verbosity` counts -v up and -q down from the configured level.

    Loading happens here, and only when a verb asks: help and usage errors must not wait for it.
    """

    def __init__(
        self, *, config: str | None, pairs: Mapping[str, str], is_debug: bool, no_color: bool, verbosity: int
    ) -> None:
        self.config = config
        self.pairs = dict(pairs)
        self.is_debug = is_debug
        self.no_color = no_color
        self.verbosity = verbosity

    @property
    def config_path(self) -> str | None:
        """The settings file: the one named, else ./config.toml when there is one."""
        return self.config or (DEFAULT_CONFIG if Path(DEFAULT_CONFIG).is_file() else None)

    def settings(self, *, needs_secret: bool = True) -> Settings:
        """The settings, flags and environment included; without `needs_secret` those of a person.

        Raises:
            PlanError: everything that is wrong with them.
        """
        return self._settings(self.pairs, needs_secret=needs_secret)

    def emulator_settings(self) -> EmulatorSettings:
        """`[platform.emulator]`, whatever the profile: an emulator needs nobody's credentials.

        Raises:
            PlanError: everything that is wrong with the settings.
        """
        return self._settings({**self.pairs, "platform.profile": "emulator"}).platform.emulator

    def _settings(self, pairs: Mapping[str, str], *, needs_secret: bool = True) -> Settings:
        from engine.pipeline.layers import divide_overrides
        from engine.pipeline.parse import load_settings

        ours, _ = divide_overrides(pairs)
        if self.verbosity and "telemetry.log_level" not in ours:
            level = min(max(_LEVELS.index("info") + self.verbosity, 0), len(_LEVELS) - 1)
            ours = {**ours, "telemetry.log_level": _LEVELS[level]}
        return load_settings(self.config_path, env=os.environ, overrides=ours, needs_secret=needs_secret)

    def pipeline(self, path: str) -> PipelineSpec:
        """One pipeline file, flags included.

        Raises:
            PlanError: everything that is wrong with it.
        """
        from engine.pipeline.layers import divide_overrides
        from engine.pipeline.parse import load_pipeline

        _, theirs = divide_overrides(self.pairs)
        return load_pipeline(path, env=os.environ, overrides=theirs)

    def load(self, paths: tuple[str, ...]) -> tuple[Settings, list[PipelineSpec]]:
        """Settings and pipelines of a run, checked before any of it starts.

        Raises:
            PlanError: everything that is wrong with any of the files.
        """
        from engine.errors import PlanError

        findings: list[Finding] = []
        settings: Settings | None = None
        specs: list[PipelineSpec] = []
        try:
            settings = self.settings()
        except PlanError as exc:
            findings += exc.findings
        for path in paths:
            try:
                specs.append(self.pipeline(path))
            except PlanError as exc:
                findings += [found for found in exc.findings if not _is_told(found, findings)]
        if findings or settings is None:
            raise PlanError(findings)
        return settings, specs

    def paint(self) -> Paint:
        """Colours for stderr."""
        return Paint(is_on=wants_colour(sys.stderr, os.environ, no_color=self.no_color))

    def paint_out(self) -> Paint:
        """Colours for stdout."""
        return Paint(is_on=wants_colour(sys.stdout, os.environ, no_color=self.no_color))


def _is_told(found: Exception, findings: list[Finding]) -> bool:
    """A fault of a flag is found again with every file; once is enough."""
    return any(str(found) == str(other) for other in findings)


pass_invocation = click.make_pass_decorator(Invocation)
