"""The wire of OpenAI's embeddings."""

from __future__ import annotations

import base64
import math
import struct
from random import Random
from typing import Any, Final

from agentsight_tokens.usage import TokenUsage

from .answer import Answer, Draft, whole

__all__ = ["embeddings"]

_DEFAULT_TOKENS: Final = 13


def embeddings(draft: Draft) -> Answer:
    """Return the answer of `/v1/embeddings`, the same vector for the same text."""
    counts = (reply.embedding_tokens for reply in draft.replies)
    tokens = sum(_DEFAULT_TOKENS if count is None else count for count in counts)
    length = int(draft.request.body.get("dimensions") or draft.reply.dimensions)
    as_base64 = draft.request.body.get("encoding_format") == "base64"
    data = [
        {"object": "embedding", "index": i, "embedding": _encoded(item, length, as_base64)}
        for i, item in enumerate(draft.request.items)
    ]
    body: dict[str, Any] = {"object": "list", "data": data, "model": draft.model}
    usage = TokenUsage(embedding_tokens=tokens)
    is_told = draft.reply.usage_mode != "never"
    if is_told:
        body["usage"] = {"prompt_tokens": tokens, "total_tokens": tokens}
    return Answer(
        pieces=whole(body, usage if is_told else None),
        usage=usage,
        response_id=draft.response_id("emb-"),
    )


def _encoded(item: Any, length: int, as_base64: bool) -> list[float] | str:  # noqa: FBT001 - private, always named by its variable
    vector = _unit_vector(repr(item), length)
    if as_base64:
        return base64.b64encode(struct.pack(f"<{length}f", *vector)).decode()
    return vector


def _unit_vector(text: str, length: int) -> list[float]:
    # Seeded by the text itself: str hashes differ from run to run.
    random = Random(text)  # noqa: S311 - a vector, no secret
    raw = [random.uniform(-1.0, 1.0) for _ in range(length)]
    norm = math.sqrt(sum(x * x for x in raw)) or 1.0
    return [x / norm for x in raw]
