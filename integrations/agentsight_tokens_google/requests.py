"""
What Google's Gen AI SDK sends, and what of it counts.

Every request of every resource goes through one of four methods of the API's client, which
retries: synchronous or not, for one answer or for a stream of them.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from types import ModuleType
from typing import Any, Final

import msgspec

from agentsight_tokens.faults import contained, guarded
from agentsight_tokens_wire.exchange import Exchange
from agentsight_tokens_wire.patches import Patches
from agentsight_tokens_wire.tap import Tap

from .asked import asked_of_body
from .endpoints import endpoint_of, model_of, provider_of

__all__ = ["patch"]

_Begin = Callable[[Any, tuple[Any, ...], dict[str, Any]], "Exchange | None"]


def patch(module: ModuleType, tap: Tap, patches: Patches) -> None:
    """Patch the module of the API's client."""

    @guarded
    def begin(client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Exchange | None:
        if not patches.is_on:
            return None
        path = kwargs["path"] if "path" in kwargs else args[1]
        endpoint = endpoint_of(path)
        if endpoint is None:
            return None
        body = kwargs["request_dict"] if "request_dict" in kwargs else args[2]
        return tap.begin(
            Exchange,
            endpoint,
            model=model_of(path),
            provider=provider_of(client),
            asked=lambda: asked_of_body(body),
        )

    for name, wrap in _WRAPPERS.items():
        patches.replace(module.BaseApiClient, name, functools.partial(wrap, begin))


def _counted(begin: _Begin, original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def request(self: Any, *args: Any, **kwargs: Any) -> Any:
        exchange = begin(self, args, kwargs)
        if exchange is None:
            return original(self, *args, **kwargs)
        try:
            answer = original(self, *args, **kwargs)
        except BaseException as error:
            _fail(exchange, error)
            raise
        _succeed(exchange, answer)
        return answer

    return request


def _counted_async(
    begin: _Begin, original: Callable[..., Awaitable[Any]]
) -> Callable[..., Awaitable[Any]]:
    @functools.wraps(original)
    async def request(self: Any, *args: Any, **kwargs: Any) -> Any:
        exchange = begin(self, args, kwargs)
        if exchange is None:
            return await original(self, *args, **kwargs)
        try:
            answer = await original(self, *args, **kwargs)
        except BaseException as error:
            _fail(exchange, error)
            raise
        _succeed(exchange, answer)
        return answer

    return request


def _streamed(begin: _Begin, original: Callable[..., Iterator[Any]]) -> Callable[..., Any]:
    @functools.wraps(original)
    def request_streamed(self: Any, *args: Any, **kwargs: Any) -> Any:
        exchange = begin(self, args, kwargs)
        chunks = original(self, *args, **kwargs)
        return chunks if exchange is None else _Chunks(chunks, exchange)

    return request_streamed


def _streamed_async(
    begin: _Begin, original: Callable[..., Awaitable[AsyncIterator[Any]]]
) -> Callable[..., Awaitable[Any]]:
    @functools.wraps(original)
    async def request_streamed(self: Any, *args: Any, **kwargs: Any) -> Any:
        exchange = begin(self, args, kwargs)
        if exchange is None:
            return await original(self, *args, **kwargs)
        try:
            chunks = await original(self, *args, **kwargs)
        except BaseException as error:
            _fail(exchange, error)
            raise
        return _AsyncChunks(chunks, exchange)

    return request_streamed


_WRAPPERS: Final[dict[str, Callable[..., Any]]] = {
    "request": _counted,
    "request_streamed": _streamed,
    "async_request": _counted_async,
    "async_request_streamed": _streamed_async,
}


@guarded
def _succeed(exchange: Exchange, answer: Any) -> None:
    exchange.answer(_body(answer))


@guarded
def _fail(exchange: Exchange, error: BaseException) -> None:
    exchange.fail(error, None)


def _body(answer: Any) -> bytes:
    """Return an answer's JSON; the SDK's first versions gave it decoded."""
    body = getattr(answer, "body", answer)
    if isinstance(body, str):
        return body.encode()
    return b"" if body is None else msgspec.json.encode(body)


class _Reader:
    """Takes the chunks of a stream as they pass by."""

    def __init__(self, chunks: Any, exchange: Exchange) -> None:
        self._chunks = chunks
        self._exchange = exchange
        exchange.begin_stream()
        self._is_begun = False
        self._is_done = False

    def _see(self, chunk: Any) -> None:
        self._is_begun = True
        with contained("reading a stream along"):
            self._exchange.see(_body(chunk))

    def _end(self, error: BaseException | None = None) -> None:
        """Finish with the error that the stream raised, or with none."""
        if self._is_done:
            return
        self._is_done = True
        with contained("the end of a stream"):
            if error is None:
                self._exchange.end()
            elif self._is_begun:
                self._exchange.cut(error)
            else:
                self._exchange.fail(error, None)

    def _leave(self) -> None:
        """Finish without having come to the end."""
        if not self._is_done:
            self._is_done = True
            with contained("the end of a stream"):
                self._exchange.cut()

    def __del__(self) -> None:
        self._leave()


class _Chunks(_Reader):
    """The chunks of a stream, whose request is sent when the first is asked for."""

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        try:
            chunk = next(self._chunks)
        except StopIteration:
            self._end()
            raise
        except BaseException as error:
            self._end(error)
            raise
        self._see(chunk)
        return chunk

    def close(self) -> None:
        """Close the stream, as a generator is closed."""
        self._leave()
        self._chunks.close()


class _AsyncChunks(_Reader):
    """The same for an asynchronous stream, whose request has been sent."""

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        try:
            chunk = await anext(self._chunks)
        except StopAsyncIteration:
            self._end()
            raise
        except BaseException as error:
            self._end(error)
            raise
        self._see(chunk)
        return chunk

    async def aclose(self) -> None:
        """Close the stream, as a generator is closed."""
        self._leave()
        await self._chunks.aclose()
