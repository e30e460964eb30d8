"""Streams: what a wrapped function returns piece by piece."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any

import wrapt

from .run import Run

if TYPE_CHECKING:
    _ObjectProxy = wrapt.ObjectProxy[Any]
else:  # no generic class before wrapt 2
    _ObjectProxy = wrapt.ObjectProxy

__all__ = [
    "AsyncStream",
    "AsyncStreamManager",
    "Stream",
    "StreamManager",
    "is_async_stream",
    "is_stream",
    "is_stream_manager",
]


def is_stream(answer: Any) -> bool:
    """Tell whether an answer comes piece by piece."""
    return hasattr(answer, "__next__") and hasattr(answer, "__iter__")


def is_async_stream(answer: Any) -> bool:
    """Tell whether an answer comes piece by piece, asynchronously."""
    return hasattr(answer, "__anext__") and hasattr(answer, "__aiter__")


def is_stream_manager(answer: Any) -> bool:
    """Tell whether an answer sends its request when it is entered, as the SDKs' helpers do."""
    is_entered = hasattr(answer, "__enter__") or hasattr(answer, "__aenter__")
    return is_entered and type(answer).__name__.endswith("StreamManager")


class _Proxy(_ObjectProxy):
    """A stream that ends its run; everything else is the stream's own."""

    def __init__(self, run: Run, stream: Any, pieces: Any) -> None:
        super().__init__(stream)
        self._self_run = run
        self._self_pieces = pieces
        # The body of a generator does not run before its first piece is asked for.
        self._self_is_sent = not (inspect.isgenerator(stream) or inspect.isasyncgen(stream))

    def __del__(self) -> None:
        self._self_end()

    def _self_end(self) -> None:
        if self._self_is_sent:
            self._self_run.fail(GeneratorExit())
        else:
            self._self_run.refuse()


class Stream(_Proxy):
    """A synchronous stream."""

    def __init__(self, run: Run, stream: Any, scope: dict[str, object]) -> None:
        super().__init__(run, stream, _drained(run, stream, scope))

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        self._self_is_sent = True
        return next(self._self_pieces)

    def close(self) -> None:
        """Close the stream; its run is settled at what is known."""
        self._self_pieces.close()
        self._self_end()
        if hasattr(self.__wrapped__, "close"):
            self.__wrapped__.close()

    def __enter__(self) -> Any:
        if hasattr(self.__wrapped__, "__enter__"):
            self.__wrapped__.__enter__()
        return self

    def __exit__(self, *error: Any) -> Any:
        self._self_pieces.close()
        self._self_end()
        if hasattr(self.__wrapped__, "__exit__"):
            return self.__wrapped__.__exit__(*error)
        return None


class AsyncStream(_Proxy):
    """An asynchronous stream."""

    def __init__(self, run: Run, stream: Any, scope: dict[str, object]) -> None:
        super().__init__(run, stream, _adrained(run, stream, scope))

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        self._self_is_sent = True
        return await anext(self._self_pieces)

    async def aclose(self) -> None:
        """Close the stream; its run is settled at what is known."""
        await self._self_pieces.aclose()
        self._self_end()
        close = getattr(self.__wrapped__, "aclose", None) or getattr(
            self.__wrapped__, "close", None
        )
        if close is not None:
            await close()

    close = aclose

    async def __aenter__(self) -> Any:
        if hasattr(self.__wrapped__, "__aenter__"):
            await self.__wrapped__.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> Any:
        await self._self_pieces.aclose()
        self._self_end()
        if hasattr(self.__wrapped__, "__aexit__"):
            return await self.__wrapped__.__aexit__(*error)
        return None


class _Manager(_ObjectProxy):
    """What opens a stream; its run ends when the stream is left."""

    def __init__(self, run: Run, manager: Any, scope: dict[str, object]) -> None:
        super().__init__(manager)
        self._self_run = run
        self._self_scope = scope
        self._self_is_sent = False

    def __del__(self) -> None:
        if self._self_is_sent:
            self._self_run.fail(GeneratorExit())
        else:
            self._self_run.refuse()

    def _self_end(self, error: BaseException | None) -> None:
        if error is None:
            self._self_run.end()
        else:
            self._self_run.fail(error)


class StreamManager(_Manager):
    """What opens a synchronous stream."""

    def __enter__(self) -> Any:
        self._self_is_sent = True
        try:
            with self._self_run.scope(self._self_scope):
                return self.__wrapped__.__enter__()
        except BaseException as error:
            self._self_run.fail(error)
            raise

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> Any:
        try:
            return self.__wrapped__.__exit__(kind, error, traceback)
        finally:
            self._self_end(error)


class AsyncStreamManager(_Manager):
    """What opens an asynchronous stream."""

    async def __aenter__(self) -> Any:
        self._self_is_sent = True
        try:
            with self._self_run.scope(self._self_scope):
                return await self.__wrapped__.__aenter__()
        except BaseException as error:
            self._self_run.fail(error)
            raise

    async def __aexit__(self, kind: Any, error: BaseException | None, traceback: Any) -> Any:
        try:
            return await self.__wrapped__.__aexit__(kind, error, traceback)
        finally:
            self._self_end(error)


def _drained(run: Run, stream: Any, scope: dict[str, object]) -> Iterator[Any]:
    try:
        with run.scope(scope):
            for piece in stream:
                run.note(piece)
                yield piece
    except BaseException as error:
        run.fail(error)
        raise
    run.end()


async def _adrained(run: Run, stream: Any, scope: dict[str, object]) -> AsyncIterator[Any]:
    try:
        with run.scope(scope):
            async for piece in stream:
                run.note(piece)
                yield piece
    except BaseException as error:
        run.fail(error)
        raise
    run.end()
