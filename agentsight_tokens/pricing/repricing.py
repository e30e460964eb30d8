"""Recorded calls at the prices that are known today, beside what was recorded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from agentsight_tokens.usage import STATED_BY_PROVIDER, UsageRecord

from .breakdown import CostBreakdown
from .estimator import CostEstimator
from .explanation import price_of_record

__all__ = ["Repricing", "repriced"]


class Repricing(msgspec.Struct, frozen=True):
    """A recorded call, and what it costs by today's catalog at its own time."""

    record: UsageRecord
    """The call as it is stored, with its old cost and version."""
    new: CostBreakdown

    @property
    def is_change(self) -> bool:
        """Whether the cost differs from the recorded one."""
        return self.record.cost_pico_usd != self.new.cost_pico_usd

    @property
    def difference_pico_usd(self) -> int:
        """How much more the call costs now; a cost that is not known counts as 0 here."""
        return (self.new.cost_pico_usd or 0) - (self.record.cost_pico_usd or 0)

    @property
    def new_record(self) -> UsageRecord:
        """The record with the new cost, status, key and version."""
        return msgspec.structs.replace(
            self.record,
            cost_pico_usd=self.new.cost_pico_usd,
            prompt_cost_pico_usd=self.new.prompt_cost_pico_usd,
            completion_cost_pico_usd=self.new.completion_cost_pico_usd,
            cost_status=self.new.status,
            price_key=self.new.price_key,
            price_version=self.new.price_version,
        )


def repriced(records: Iterable[UsageRecord], estimator: CostEstimator) -> Iterator[Repricing]:
    """
    Yield each reported call with its cost by the estimator; nothing is stored.

    Calls whose usage is not known are left out, since no price can help them, and so are those
    whose cost the provider itself has stated.
    """
    for record in records:
        if not record.is_unreported and record.price_key != STATED_BY_PROVIDER:
            yield Repricing(record, price_of_record(record, estimator))
