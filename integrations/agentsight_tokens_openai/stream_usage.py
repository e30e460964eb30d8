"""
Asks chat streams for their usage, which OpenAI tells only who asks for it.

The chunk that carries it has no choices, which programs that did not ask for it do not
expect: it is taken out of the stream again. A server that refuses the request's field is
asked without it at once, and never with it any more. Nothing is asked where the program has
said what it wants, where a framework sends the request, or in a raw response, whose chunks
the program takes apart itself.
"""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

from agentsight_tokens_wire.errors import http_status
from agentsight_tokens_wire.exchange import Exchange
from agentsight_tokens_wire.stainless import Sent

__all__ = ["SentStream", "may_ask"]

_FIELDS: Final = ("stream_options", "include_usage")
_RAW: Final = "X-Stainless-Raw-Response"
_PATHS: Final = ("/chat/completions", "/completions")

_accepting: Final = {"https://api.openai.com/v1/"}
_refusing: Final[set[str]] = set()


def may_ask(client: Any, options: Any) -> bool:
    """Tell whether a request is for a stream that would not tell its usage."""
    body = options.json_data
    if not isinstance(body, dict) or body.get("stream") is not True:
        return False
    if not options.url.partition("?")[0].endswith(_PATHS):
        return False
    if hasattr(options.headers, "get") and options.headers.get(_RAW):
        return False
    wanted = {**body, **(options.extra_json or {})}.get("stream_options") or {}
    return "include_usage" not in wanted and str(client.base_url) not in _refusing


class SentStream(Sent):
    """The request of a stream that is asked for its usage."""

    alters = True

    def __init__(self, client: Any, exchange: Exchange) -> None:
        super().__init__(client, exchange)
        self._address = str(client.base_url)
        self._is_asked = False
        self._has_retreated = False

    def changed(self, options: Any) -> Any:
        """Return the options with the request for the usage."""
        wanted = {**options.json_data, **(options.extra_json or {})}.get("stream_options") or {}
        asking = {"stream_options": {**wanted, "include_usage": True}}
        changed = copy.copy(options)
        changed.json_data = {**options.json_data, **asking}
        if options.extra_json and "stream_options" in options.extra_json:
            changed.extra_json = {**options.extra_json, **asking}
        self._is_asked = True
        return changed

    def retreats(self, error: Exception) -> bool:
        """Tell whether the server may have refused what was added to the request."""
        if http_status(error) not in (400, 422):
            return False
        is_named = any(field in str(error) for field in _FIELDS)
        if not is_named and self._address in _accepting:
            return False
        self._is_asked = False
        self._has_retreated = True
        if is_named:
            _refusing.add(self._address)
        return True

    def prepare(self, result: Any) -> None:
        """Take the chunk that only tells the usage out of the stream."""
        if self._has_retreated:
            _refusing.add(self._address)
        elif self._is_asked:
            _accepting.add(self._address)
            # The one place where all ways to read a stream meet; the SDK has no other.
            chunks = result._iterator  # noqa: SLF001
            is_sync = hasattr(chunks, "__next__")
            result._iterator = _Shown(chunks) if is_sync else _AsyncShown(chunks)  # noqa: SLF001


class _Shown:
    """The chunks of a stream that the program expects."""

    def __init__(self, chunks: Iterator[Any]) -> None:
        self._chunks = chunks

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        chunk = next(self._chunks)
        while _only_tells_usage(chunk):
            chunk = next(self._chunks)
        return chunk


class _AsyncShown:
    """The same for an asynchronous stream."""

    def __init__(self, chunks: AsyncIterator[Any]) -> None:
        self._chunks = chunks

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        chunk = await anext(self._chunks)
        while _only_tells_usage(chunk):
            chunk = await anext(self._chunks)
        return chunk


def _only_tells_usage(chunk: Any) -> bool:
    return getattr(chunk, "usage", None) is not None and not getattr(chunk, "choices", True)
