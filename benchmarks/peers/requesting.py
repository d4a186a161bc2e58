"""Requesting: one job asked for with `requests`, as the synchronous frameworks do it."""

from __future__ import annotations

from typing import Any

import orjson


def session_for(connections: int) -> Any:
    """A session that keeps so many connections."""
    import requests
    from requests.adapters import HTTPAdapter

    session = requests.Session()
    session.trust_env = False
    session.mount("http://", HTTPAdapter(pool_connections=1, pool_maxsize=connections))
    return session


class Job:
    """A job that was created from lines of the input."""

    def __init__(self, session: Any, url: str, lines: list[str]) -> None:
        self._session = session
        ids = [orjson.loads(line)["id"] for line in lines]
        body = orjson.dumps({"kind": "intelligence.enrich.bulk", "payload": {"profile_ids": ids}})
        said = session.post(f"{url}/v1/jobs", data=body, headers={"Content-Type": "application/json"}).content
        self._at = f"{url}/v1/jobs/{orjson.loads(said)['id']}"

    def is_over(self) -> bool:
        """Ask whether it has ended."""
        return bool(orjson.loads(self._session.get(self._at).content)["status"] == "succeeded")

    def rows(self) -> list[dict[str, Any]]:
        """The rows of its result."""
        link = orjson.loads(self._session.get(f"{self._at}/result").content)["signed_url"]
        found: list[dict[str, Any]] = orjson.loads(self._session.get(link).content)["results"]
        return found
