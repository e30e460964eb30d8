"""Responses of providers: which were counted, and what one says of its call."""

from __future__ import annotations

from collections import OrderedDict
from datetime import datetime, timedelta, timezone
from threading import RLock
from typing import TYPE_CHECKING, Final

from .ids import time_ordered_id
from .scope import tool_in_force
from .usage import STATED_BY_PROVIDER, Scope, TokenUsage, UsageRecord, pico_usd

if TYPE_CHECKING:
    from .extract import Extracted

__all__ = ["CountedResponses", "record_of"]

REMEMBERED_RESPONSES: Final = 4096
"""How many ids of responses are remembered."""


class CountedResponses:
    """
    Remembers the ids of responses, so that each is counted once.

    One that is tracked by hand is known if its id is. Two handlers that saw the same response
    saw it at the same time; otherwise it is another one, because some servers give every
    response the same id.
    """

    def __init__(self) -> None:
        self._lock = RLock()
        self._ended: OrderedDict[str, tuple[str | None, datetime]] = OrderedDict()

    def add(self, response_id: str, record: UsageRecord) -> bool:
        """Remember the id of a record's response; tell whether it was counted before."""
        with self._lock:
            before = self._ended.get(response_id)
            if before is not None and self._is_same(record, *before):
                return True
            self._ended[response_id] = (record.handler, record.at)
            if len(self._ended) > REMEMBERED_RESPONSES:
                self._ended.popitem(last=False)
        return False

    @staticmethod
    def _is_same(record: UsageRecord, handler: str | None, ended_at: datetime) -> bool:
        if record.handler is None or handler is None:
            return True
        began_at = record.at - timedelta(seconds=record.duration_seconds or 0)
        return handler != record.handler and began_at <= ended_at


def record_of(extracted: Extracted, scope: Scope, provider: str | None) -> UsageRecord:
    """Return the record of a response that a program hands over itself."""
    reported = extracted.reported_cost_usd
    return UsageRecord(
        id=time_ordered_id(),
        at=datetime.now(timezone.utc),
        usage=extracted.usage or TokenUsage(),
        scope=scope,
        model=extracted.model,
        provider=provider or extracted.provider,
        operation=extracted.operation,
        unreported_reason="provider_silent" if extracted.usage is None else None,
        cost_pico_usd=None if reported is None else pico_usd(reported),
        cost_status="unpriced" if reported is None else "priced",
        price_key=None if reported is None else STATED_BY_PROVIDER,
        service_tier=extracted.service_tier,
        region=extracted.region,
        tool_name=tool_in_force(),
        response_id=extracted.response_id,
    )
