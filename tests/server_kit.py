"""A server of a store, asked in this process."""

from __future__ import annotations

import asyncio
import json
from typing import Any, NamedTuple

from starlette.applications import Starlette

from agentsight_tokens.cycle import Cycle
from tests.records import AT, call


class Answer(NamedTuple):
    """What the server has answered."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def message(self) -> str:
        return self.json["error"]["message"] if "error" in self.json else self.json["message"]


def ask(
    app: Starlette,
    method: str,
    path: str,
    *,
    body: bytes = b"",
    key: str | None = None,
    query: str = "",
    scheme: str = "http",
    answers: list[Answer] | None = None,
    **headers: str,
) -> Answer:
    """Ask the application as a server would; what is answered before it raises is in `answers`."""
    if key is not None:
        headers["authorization"] = f"Bearer {key}"
    sent: list[dict[str, Any]] = []
    scope = {
        "type": "http",
        "http_version": "1.1",
        "scheme": scheme,
        "method": method,
        "path": path,
        "query_string": query.encode(),
        "headers": [
            (n.replace("_", "-").lower().encode(), v.encode("latin-1")) for n, v in headers.items()
        ],
    }
    pieces = [body[i : i + 65536] for i in range(0, len(body), 65536)] or [b""]
    messages = [{"type": "http.request", "body": p, "more_body": True} for p in pieces]
    messages.append({"type": "http.request", "body": b"", "more_body": False})

    async def receive() -> dict[str, Any]:
        if not messages:
            await asyncio.Event().wait()  # the client stays until it has the whole answer
        return messages.pop(0)

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    try:
        asyncio.run(app(scope, receive, send))  # type: ignore[arg-type]
    finally:
        start, *rest = sent
        headers_sent = {n.decode(): v.decode() for n, v in start["headers"]}
        answer = Answer(start["status"], headers_sent, b"".join(m["body"] for m in rest))
        if answers is not None:
            answers.append(answer)
    return answer


def cycle(key: str, *numbers: int) -> Cycle:
    """Return a cycle whose calls tell their numbers."""
    return Cycle.of(
        [call(number, id=f"{key}-{number}") for number in numbers],
        key=key,
        conversation_id="c",
        sealed_by="send",
        sealed_at=AT,
    )
