"""Streams: reading a response's bytes as they pass by, whoever asks for them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

from agentsight_tokens.faults import contained

from .bodies import splitter_for, splitter_of
from .exchange import Exchange

__all__ = ["read_again", "watch"]


def watch(response: Any, exchange: Exchange) -> None:
    """
    Read the body of an HTTP response along with the program.

    The stream beneath the response is replaced, the one place through which every way of
    reading leads: the SDK's own iterators, raw lines and bytes, and closing without reading.
    """
    stream = response.stream
    response.stream = _class_for(type(stream))(stream, _Watch(response, exchange))


def read_again(response: Any, exchange: Exchange) -> None:
    """Read a body that somebody has read already, such as the client itself."""
    body, kind = response.content, exchange.endpoint.content_type
    if kind is None and body.startswith(b"{"):
        exchange.answer(body)  # as no stream begins, so that no header need be looked for
        return
    splitter = splitter_of(kind or response.headers.get("content-type", ""))
    if not splitter.is_stream:
        exchange.answer(body)
        return
    exchange.begin_stream()
    for event in (*splitter.feed(body), *splitter.finish()):
        exchange.see(event)
    exchange.end()


class _Watch:
    """Tells an exchange what passed by; a fault of its own ends it and nothing else."""

    __slots__ = ("_exchange", "_is_done", "_splitter")

    def __init__(self, response: Any, exchange: Exchange) -> None:
        self._exchange = exchange
        self._splitter = splitter_for(response, exchange.endpoint.content_type)
        self._is_done = False
        if self._splitter.is_stream:
            exchange.begin_stream()

    def see(self, data: bytes) -> None:
        """Take a piece of the body."""
        if self._is_done:
            return
        with contained("reading a stream along"):
            for event in self._splitter.feed(data):
                self._exchange.see(event)

    def end(self) -> None:
        """Note that there is no more."""
        if self._is_done:
            return
        self._is_done = True
        with contained("the end of a stream"):
            exchange, rest = self._exchange, self._splitter.finish()
            if not exchange.is_stream:
                exchange.answer(b"".join(rest))
                return
            for event in rest:
                exchange.see(event)
            exchange.end()

    def cut(self, error: BaseException | None = None) -> None:
        """Note that the program left, or that the stream broke."""
        if self._is_done:
            return
        self._is_done = True
        with contained("the end of a stream"):
            exchange = self._exchange
            if exchange.is_stream:
                for event in self._splitter.finish():
                    exchange.see(event)
            exchange.cut(error)


class _Stream:
    """Takes the place of the stream beneath a response."""

    def __init__(self, stream: Any, watch: _Watch) -> None:
        self._stream = stream
        self._watch = watch

    def __iter__(self) -> Iterator[bytes]:
        watch = self._watch
        try:
            for data in self._stream:
                watch.see(data)
                yield data
        except GeneratorExit:
            watch.cut()
            raise
        except BaseException as error:
            watch.cut(error)
            raise
        watch.end()

    def close(self) -> None:
        self._watch.cut()
        self._stream.close()

    def __del__(self) -> None:
        self._watch.cut()


class _AsyncStream:
    """The same for an asynchronous response."""

    def __init__(self, stream: Any, watch: _Watch) -> None:
        self._stream = stream
        self._watch = watch

    async def __aiter__(self) -> AsyncIterator[bytes]:
        watch = self._watch
        try:
            async for data in self._stream:
                watch.see(data)
                yield data
        except GeneratorExit:
            watch.cut()
            raise
        except BaseException as error:
            watch.cut(error)
            raise
        watch.end()

    async def aclose(self) -> None:
        self._watch.cut()
        await self._stream.aclose()

    def __del__(self) -> None:
        self._watch.cut()


_classes: Final[dict[type[Any], type[Any]]] = {}


def _class_for(kind: type[Any]) -> type[Any]:
    """Return the class that is a stream too for the HTTP library that a stream's class is of."""
    ours = _classes.get(kind)
    if ours is None:
        bases = {base.__name__: base for base in reversed(kind.__mro__)}
        base = bases.get("AsyncByteStream")
        if base is not None:
            ours = type("WatchedStream", (_AsyncStream, base), {})
        else:
            ours = type("WatchedStream", (_Stream, bases["SyncByteStream"]), {})
        _classes[kind] = ours
    return ours
