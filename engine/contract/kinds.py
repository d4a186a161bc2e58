"""The four job kinds: how a batch becomes a payload, and how the rows of a result are found (Q70-Q73).

Rows of the contract profile, which names them: whoever wants a kind asks `PROFILE.kinds`, so that one that is changed
there is changed for batcher, fetch lane and the emulator's work alike. What a row holds beside that is in `results`.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

IMPORT = "import.bulk"
ENRICH = "intelligence.enrich.bulk"
EXPORT = "export.bulk"
GRAPH = "graph.compute"


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """How one kind carries rows.

    carries    "rows": each record travels whole; "keys": only its key travels
    path       where in the payload the array of rows or keys goes
    results    the result member that holds the row results; for `files` see `manifest`
    match      the member of a row result that names the input row; `index` counts from 0 in the batch
    status     the member that says how the row ended, None when presence is success
    accepted, rejected   default buckets by status; all of them together always in the same order, which is that of
               how a row may end: created, updated, merged, skipped, failed for an import; succeeded, failed for others
    total      the member of the summary that counts all rows
    manifest   True: the result is a list of files to fetch (`files`), each a lease of its own
    defaults   payload members the platform requires, used unless the pipeline says otherwise
    members    payload members we know of; the platform may take more
    """

    name: str
    carries: Literal["rows", "keys"]
    path: tuple[str, ...]
    results: str
    match: str
    status: str | None
    total: str
    accepted: tuple[str, ...]
    rejected: tuple[str, ...]
    manifest: bool = False
    defaults: dict[str, Any] = {}
    members: tuple[str, ...] = ()


IMPORT_BULK = Kind(
    name=IMPORT, carries="rows", path=("source", "inline"), results="rows", match="external_id", status="status",
    total="received",
    accepted=("created", "updated", "merged"), rejected=("skipped", "failed"),
    defaults={"entity_type": "person", "mode": "upsert", "on_error": "skip"},
    members=("source", "entity_type", "mapping", "mode", "dedupe", "on_error", "max_errors", "dry_run"),
)  # fmt: skip
ENRICH_BULK = Kind(
    name=ENRICH, carries="keys", path=("profile_ids",), results="results", match="profile_id", status="status",
    total="requested",
    accepted=("succeeded",), rejected=("failed",), members=("profile_ids", "providers", "fields", "force"),
)  # fmt: skip
EXPORT_BULK = Kind(
    name=EXPORT, carries="keys", path=("filter", "ids"), results="files", match="id", status=None, total="rows",
    accepted=(),
    rejected=(), manifest=True, defaults={"format": "jsonl"},
    members=("entity_types", "filter", "fields", "format", "mask_pii"),
)  # fmt: skip
GRAPH_COMPUTE = Kind(
    name=GRAPH, carries="keys", path=("scope", "node_ids"), results="nodes", match="id", status=None, total="requested",
    accepted=(), rejected=(), members=("algorithm", "scope", "params"),
)  # fmt: skip
