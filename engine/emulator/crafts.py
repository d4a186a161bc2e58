"""The four kinds the emulator can do, by name: the one table that joins a kind to its work."""

from __future__ import annotations

from engine.contract.kinds import ENRICH, EXPORT, GRAPH, IMPORT
from engine.emulator import work_enrich, work_export, work_graph, work_import
from engine.emulator.work import Craft

CRAFTS: dict[str, Craft] = {
    IMPORT: work_import.CRAFT,
    ENRICH: work_enrich.CRAFT,
    EXPORT: work_export.CRAFT,
    GRAPH: work_graph.CRAFT,
}
