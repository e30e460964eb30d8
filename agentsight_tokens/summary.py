"""Sums over calls."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Final

import msgspec

from .figures import plural
from .markup import usage_table
from .usage import USAGE_FIELDS, TokenUsage, UsageRecord, usd

__all__ = ["UsageSummary"]


class UsageSummary(TokenUsage, frozen=True, kw_only=True, omit_defaults=True, gc=True):
    """The usage of many calls, with their number, their cost and what is not known of them."""

    request_count: int = 0
    """Calls, failed ones included."""
    cost_pico_usd: int = 0
    """The cost of the calls that have one, in 10^-12 USD."""
    prompt_cost_pico_usd: int = 0
    """The part of the cost that input caused."""
    completion_cost_pico_usd: int = 0
    """The part of the cost that output caused."""
    unreported_calls: int = 0
    """Calls of which the provider never said what they used."""
    unpriced_calls: int = 0
    """Calls that used tokens but have no known price."""
    unpriced_tokens: int = 0
    """The tokens of those calls, embeddings included."""
    estimated_calls: int = 0
    """Calls whose usage is an estimate."""
    by_model: dict[str, UsageSummary] = msgspec.field(default_factory=dict)
    """The same for each model; calls without a model are under `unknown`."""

    @classmethod
    def merged(cls, summaries: Iterable[UsageSummary]) -> UsageSummary:
        """Add up summaries and, model by model, what they hold of each."""
        totals: dict[str, int] = dict.fromkeys(_COUNTERS, 0)
        models: dict[str, list[UsageSummary]] = {}
        for summary in summaries:
            for name in _COUNTERS:
                totals[name] += getattr(summary, name)
            for model, of_model in summary.by_model.items():
                models.setdefault(model, []).append(of_model)
        by_model = {model: cls.merged(parts) for model, parts in models.items()}
        return cls(**totals, by_model=by_model)

    @classmethod
    def of_calls(cls, records: Iterable[UsageRecord]) -> UsageSummary:
        """Add up calls, also model by model."""
        found = [(record.model or "unknown", cls._of_call(record)) for record in records]
        by_model = {
            model: cls.merged(part for name, part in found if name == model)
            for model in dict.fromkeys(name for name, _ in found)
        }
        total = cls.merged(part for _, part in found)
        return msgspec.structs.replace(total, by_model=by_model)

    @classmethod
    def _of_call(cls, record: UsageRecord) -> UsageSummary:
        tokens = record.total_tokens + record.embedding_tokens
        is_unpriced = record.cost_pico_usd is None and not record.is_unreported
        return cls(
            **{name: getattr(record.usage, name) for name in USAGE_FIELDS},
            request_count=1,
            cost_pico_usd=record.cost_pico_usd or 0,
            prompt_cost_pico_usd=record.prompt_cost_pico_usd or 0,
            completion_cost_pico_usd=record.completion_cost_pico_usd or 0,
            unreported_calls=int(record.is_unreported),
            unpriced_calls=int(is_unpriced and tokens > 0),
            unpriced_tokens=tokens if is_unpriced else 0,
            estimated_calls=int(record.source == "estimated"),
        )

    @property
    def cost(self) -> Decimal:
        """The cost in USD; complete only if `cost_is_complete`."""
        return usd(self.cost_pico_usd)

    @property
    def total_cost(self) -> Decimal:
        """The cost in USD, by its other name."""
        return self.cost

    @property
    def average_tokens(self) -> float | None:
        """Tokens per call that reported some, embeddings included; None without such a call."""
        calls = self.request_count - self.unreported_calls
        return (self.total_tokens + self.embedding_tokens) / calls if calls > 0 else None

    @property
    def average_cost(self) -> Decimal | None:
        """USD per call that has a price; None without such a call."""
        calls = self.request_count - self.unreported_calls - self.unpriced_calls
        return self.cost / calls if calls > 0 else None

    @property
    def cost_per_token(self) -> Decimal | None:
        """USD per token that has a price; None without such a token."""
        tokens = self.total_tokens + self.embedding_tokens - self.unpriced_tokens
        return self.cost / tokens if tokens > 0 else None

    @property
    def cost_is_complete(self) -> bool:
        """Whether every call was reported and has a price."""
        return not self.unpriced_calls and not self.unreported_calls

    def _repr_html_(self) -> str:
        groups = sorted(self.by_model.items(), key=lambda each: -each[1].cost_pico_usd)
        tokens = plural(self.total_tokens, "token")
        title = f"{plural(self.request_count, 'call')}, {tokens}"
        return usage_table(title, ("model",), [((name,), usage) for name, usage in groups], self)


_COUNTERS: Final = tuple(name for name in UsageSummary.__struct_fields__ if name != "by_model")
