"""FastAPI on uvicorn: `POST /v1/jobs` that answers what the emulator answers, from a dict in memory.

It reads the body into a model, looks the key and the token up, and makes a job. It verifies no signature, keeps no
ledger of effects, runs nothing and stores nothing: the least that could be called the same answer.

Annotations are no texts here: FastAPI could not find the models they name inside the function.
"""

import json
import sys
import threading
import uuid
from datetime import UTC, datetime
from typing import Annotated, Any

TOKEN = "Bearer bench"


def make() -> Any:
    """The application."""
    from fastapi import FastAPI, Header, HTTPException
    from pydantic import BaseModel

    app = FastAPI()
    jobs: dict[str, Any] = {}

    class Create(BaseModel):
        kind: str
        payload: dict[str, Any]
        callback_url: str | None = None

    class Created(BaseModel):
        id: str
        kind: str
        status: str
        created_at: str
        trace_id: str

    @app.post("/v1/jobs", status_code=201)
    async def create(
        asked: Create,
        authorization: Annotated[str, Header()],
        idempotency_key: Annotated[str, Header()],
    ) -> Created:
        if authorization != TOKEN:
            raise HTTPException(401)
        found = jobs.get(idempotency_key)
        if found is None:
            now = datetime.now(UTC).isoformat()
            found = jobs[idempotency_key] = Created(
                id=str(uuid.uuid4()), kind=asked.kind, status="queued", created_at=now, trace_id=uuid.uuid4().hex
            )
        return found

    return app


def main() -> None:
    """Serve until standard input ends."""
    import socket

    import uvicorn

    listening = socket.create_server(("127.0.0.1", 0), backlog=1024)
    config = uvicorn.Config(make(), log_level="error", access_log=False, http="httptools", loop="uvloop")
    server = uvicorn.Server(config)

    def end() -> None:
        sys.stdin.read()
        server.should_exit = True

    threading.Thread(target=end, daemon=True).start()
    print(json.dumps({"url": f"http://127.0.0.1:{listening.getsockname()[1]}"}), flush=True)
    server.run(sockets=[listening])


if __name__ == "__main__":
    main()
