"""
Results of batches, which are billed when the batch is made and told when they are read.

They belong to whoever reads them first, because the batch may have been made by another
process. Reading them again counts nothing.
"""

from __future__ import annotations

from collections import OrderedDict
from threading import RLock
from typing import Final

from agentsight_tokens.meter import OpenCall
from agentsight_tokens_wire.answers import read_json
from agentsight_tokens_wire.exchange import Exchange

__all__ = ["BatchResults"]

_MOST: Final = 1 << 17
"""Of how many results is remembered that they were counted; a batch has at most 100,000."""

_lock: Final = RLock()
_counted: Final[OrderedDict[int, None]] = OrderedDict()


class BatchResults(Exchange):
    """The results of one batch as they are read; each is a call of its own."""

    __slots__ = ()

    def see(self, event: bytes) -> None:
        """Count a result."""
        told = read_json(event)
        if told is None:
            return
        found = self.endpoint.read(told, None, None)
        # A request of a batch that failed, expired or was cancelled is not billed.
        if not found.usage or found.response_id is None or not _is_new(found.response_id):
            return
        around = self.call
        call = OpenCall(
            around.recorder, around.scope, handler=around.handler, operation=around.operation
        )
        call.tool_name = around.tool_name
        call.provider = around.provider
        Exchange(call, self.endpoint).take(told, service_tier="batch")

    def answer(self, body: bytes) -> None:
        """End without a result."""
        self.call.drop()

    def end(self) -> None:
        """End: every result has been counted for itself."""
        self.call.drop()

    def cut(self, error: BaseException | None = None) -> None:
        """End early; what was not read is not counted."""
        self.call.drop()

    def fail(self, error: BaseException, body: bytes | None) -> None:
        """End without a result, at no cost."""
        self.call.drop()


def _is_new(response_id: str) -> bool:
    key = hash(response_id)
    with _lock:
        if key in _counted:
            return False
        _counted[key] = None
        if len(_counted) > _MOST:
            _counted.popitem(last=False)
        return True
