"""
Responses: one that two instrumentations have seen is one call.

Nested spans are known by their trace. Instrumentations that follow callbacks do not nest: their
span and that of the SDK beneath are in traces of their own, and only the response is the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from hashlib import blake2b
from typing import Any, Final, NamedTuple

import msgspec

from agentsight_tokens.backend.store import Transaction

from .names import RESPONSE_ID
from .span import Span

__all__ = ["FORGET_RESPONSES", "Response", "own_responses", "read_response_id", "response_of"]

_ANSWER: Final = "output.value"
_ID_IN_ANSWER: Final = re.compile(r'"id":\s*"((?:chatcmpl|cmpl|gen|msg|resp)[-_][^"]{1,200})"')

_COLUMNS: Final = ("library", "is_used", "began_at", "ended_at", "touched_at")
# It is another response if the two were never under way together: some servers give every
# response the same id.
_IS_MINE: Final = (
    "excluded.is_used > span_responses.is_used OR excluded.library = span_responses.library "
    "OR excluded.began_at > span_responses.ended_at "
    "OR excluded.ended_at < span_responses.began_at"
)
_CHANGES: Final = ", ".join(
    f"{name} = CASE WHEN {_IS_MINE} THEN excluded.{name} ELSE span_responses.{name} END"
    for name in _COLUMNS
)
_INSERT: Final = f"INSERT INTO span_responses (project_id, response, {', '.join(_COLUMNS)}) "
_ON_KNOWN: Final = (
    f"ON CONFLICT (project_id, response) DO UPDATE SET {_CHANGES} RETURNING response, library"
)
_FIELDS: Final = ", ".join(f"json_extract(value, '$[{i}]')" for i in range(5))
_CLAIM: Final = {
    "sqlite": f"{_INSERT}SELECT ?, {_FIELDS}, ? FROM json_each(?) WHERE true {_ON_KNOWN}",  # noqa: S608
    "postgresql": f"{_INSERT}SELECT ?, value ->> 0, value ->> 1, (value ->> 2)::bigint, "  # noqa: S608
    "(value ->> 3)::bigint, (value ->> 4)::bigint, ? FROM json_array_elements(?::json) AS value "
    f"ORDER BY value ->> 0 {_ON_KNOWN}",
}

FORGET_RESPONSES: Final = (
    "DELETE FROM span_responses WHERE (project_id, response) IN (SELECT project_id, response "
    "FROM span_responses WHERE touched_at < ? LIMIT ?)"
)


class Response(NamedTuple):
    """What an instrumentation says of a response."""

    digest: str
    """Of the provider's id."""
    library: str
    """A digest of the instrumentation."""
    is_used: int
    """1 if it tells what the response used."""
    began_at: int
    ended_at: int
    """Microseconds since 1970 UTC."""


def read_response_id(attributes: dict[str, Any]) -> None:
    """
    Read the response's id where only the answer that a span carries has it, and drop the answer.

    OpenInference has no attribute for it.
    """
    answer = attributes.pop(_ANSWER, None)
    if isinstance(answer, str) and attributes.get("openinference.span.kind") == "LLM":
        found = _ID_IN_ANSWER.search(answer)
        if found:
            attributes.setdefault(RESPONSE_ID[0], found[1])


def response_of(span: Span, response_id: str, *, is_used: bool) -> Response:
    """Return what a span says of a response."""
    return Response(
        _digest(response_id),
        _digest(span.origin.library),
        int(is_used),
        (span.start_ns or span.end_ns) // 1000,
        span.end_ns // 1000,
    )


def own_responses(
    transaction: Transaction,
    responses: Iterable[Response],
    *,
    dialect: str,
    project_id: int,
    touched_at: int,
) -> set[tuple[str, str]]:
    """
    Note responses; return the digests of those that are each instrumentation's to count.

    Of several the first that tells of use, else the first, has it for ever.
    """
    claims: dict[str, Response] = {}
    for each in responses:
        known = claims.get(each.digest)
        if known is None or each.is_used > known.is_used:
            claims[each.digest] = each
    if not claims:
        return set()
    values = msgspec.json.encode(list(claims.values())).decode()
    rows = transaction.rows(_CLAIM[dialect], (project_id, touched_at, values))
    return {(digest, library) for digest, library in rows}


def _digest(text: str) -> str:
    return blake2b(text.encode("utf-8", "replace"), digest_size=8).hexdigest()
