"""Modules: the capabilities behind the jobs, as pages of the documentation (contract 2.1 and C).

Pure. Which job kinds a capability has is data; how each carries rows and ends them is read from `kinds`.
"""

from __future__ import annotations

import hashlib

import msgspec

from engine.contract.kinds import ENRICH, EXPORT, GRAPH, IMPORT, Kind
from engine.contract.profile import PROFILE
from engine.contract.reference import Heading, ModulePage
from engine.contract.titles import LAST_UPDATED


class Module(msgspec.Struct, frozen=True, kw_only=True):
    """A capability: what it is called, and the kinds of jobs that offer it."""

    slug: str
    title: str
    description: str
    category: str
    kinds: tuple[str, ...]


MODULES = (
    Module(
        slug="data-import-export", title="Data import and export", category="data", kinds=(IMPORT, EXPORT),
        description="Rows in and out in bulk, each accounted for.",
    ),
    Module(
        slug="profile-attribute-enrichment", title="Profile enrichment", category="intelligence", kinds=(ENRICH,),
        description="Attributes derived for profiles, each with its source and its confidence.",
    ),
    Module(
        slug="graph-structural-scoring", title="Graph scoring and layout", category="analysis", kinds=(GRAPH,),
        description="Centralities, roles, communities and positions of the nodes of a graph.",
    ),
)  # fmt: skip


def module_page(slug: str, docs_url: str) -> ModulePage | None:
    """The page of a capability; None when there is none of this slug."""
    module = next((module for module in MODULES if module.slug == slug), None)
    if module is None:
        return None
    parts = [f"# {module.title}", module.description]
    headings = [Heading(id=slug, text=module.title, level=1)]
    for name in module.kinds:
        headings.append(Heading(id=name.replace(".", "-"), text=name, level=2))
        parts += [f"## {name}", _about(PROFILE.kinds[name])]
    markdown = "\n\n".join(parts) + "\n"
    path = f"/api/docs/modules/{slug}"
    return ModulePage(
        id=slug,
        slug=slug,
        title=module.title,
        description=module.description,
        category=module.category,
        tags=list(module.kinds),
        last_modified=LAST_UPDATED,
        source_ref="engine/contract/kinds.py",
        url=docs_url + path,
        html_path=path,
        json_path=f"{path}?format=json",
        markdown_path=f"{path}?format=markdown",
        checksum=hashlib.sha256(markdown.encode()).hexdigest(),
        headings=headings,
        markdown=markdown,
    )


def _about(kind: Kind) -> str:
    lines = [
        f"- Carries {kind.carries}, at `payload.{'.'.join(kind.path)}`, at most {PROFILE.profile_ids_max}",
        f"- Answers `{kind.results}`; each names its row by `{kind.match}`",
    ]
    if kind.status is not None:
        lines.append(f"- `{kind.status}` of a row: {', '.join((*kind.accepted, *kind.rejected))}")
    if kind.defaults:
        lines.append("- Unless said otherwise: " + ", ".join(f"`{k}` = `{v}`" for k, v in kind.defaults.items()))
    return "\n".join(lines)
