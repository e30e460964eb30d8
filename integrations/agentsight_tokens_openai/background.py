"""
Responses that are made in the background, and told of when the program asks again.

The call stays open until a `retrieve` or a `cancel` brings the final response. Where none
does, or another process asks, the call is counted as unreported.
"""

from __future__ import annotations

import atexit
from collections import OrderedDict
from threading import RLock
from typing import Any, Final

from agentsight_tokens.faults import contained
from agentsight_tokens.meter import OpenCall
from agentsight_tokens_wire.answers import read_json
from agentsight_tokens_wire.exchange import Exchange

from .endpoints import RESPONSES

__all__ = ["BackgroundExchange", "give_up", "resumed"]

_MOST: Final = 4096
_RUNNING: Final = frozenset({"queued", "in_progress"})

_lock: Final = RLock()
_pending: Final[OrderedDict[str, OpenCall]] = OrderedDict()


def resumed(response_id: str) -> Exchange | None:
    """Return the exchange that goes on where a background response was left."""
    call = _pending.get(response_id)
    return _Resumed(call, RESPONSES) if call is not None else None


def give_up() -> None:
    """Finish the calls whose final response the program never asked for."""
    while _pending:
        with _lock:
            _, call = _pending.popitem(last=False)
        _finish_untold(call)


atexit.register(give_up)


def _finish_untold(call: OpenCall) -> None:
    with contained("a response that was never retrieved"):
        call.finish(None, unreported_reason="never_retrieved")


class BackgroundExchange(Exchange):
    """The request that has a response made in the background."""

    __slots__ = ()

    def answer(self, body: bytes) -> None:
        """Take the response, which is most often yet to be made."""
        told = read_json(body)
        if told is None or not self._waits(told.id, told.status):
            super().answer(body)

    def cut(self, error: BaseException | None = None) -> None:
        """Leave a stream, which may be gone on with."""
        if self.has_ended() or not self._waits_for_stream():
            super().cut(error)

    def end(self) -> None:
        """End a stream, which may be gone on with if it did not bring the response."""
        if self.has_ended() or not self._waits_for_stream():
            super().end()

    def _waits_for_stream(self) -> bool:
        response: Any = self.first.response if self.first is not None else None
        return isinstance(response, dict) and self._waits(response.get("id"), "in_progress")

    def _waits(self, response_id: Any, status: Any) -> bool:
        if not isinstance(response_id, str) or status not in _RUNNING:
            return False
        oldest = None
        with _lock:
            _pending[response_id] = self.call
            if len(_pending) > _MOST:
                _, oldest = _pending.popitem(last=False)
        if oldest is not None:
            _finish_untold(oldest)
        return True


class _Resumed(Exchange):
    """A request that asks what became of a response; only the final one ends the call."""

    __slots__ = ()

    def answer(self, body: bytes) -> None:
        told = read_json(body)
        if told is not None and told.status not in _RUNNING:
            super().answer(body)
            self._forget()

    def end(self) -> None:
        if self.has_ended():
            super().end()
            self._forget()

    def cut(self, error: BaseException | None = None) -> None:
        self.end()

    def fail(self, error: BaseException, body: bytes | None) -> None:
        """Leave the call open; the program may ask again."""

    def unsent(self) -> None:
        """Leave the call open; it was not this request that it was begun for."""

    def _forget(self) -> None:
        with _lock:
            for key in [key for key, call in _pending.items() if call is self.call]:
                del _pending[key]
