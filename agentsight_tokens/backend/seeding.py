"""
Seeding: made-up calls in the shape of real ones, to try a store at any size.

A company whose use grows over some months, by day and by night, on working days and on weekends:
a few users who call a lot and many who call now and then, conversations of a few calls whose
input grows and is mostly read from the cache, tools, embeddings, errors that nobody has counted,
a model of the house that has no price. The same seed makes the same calls.
"""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime, timedelta
from itertools import accumulate
from operator import attrgetter
from random import Random
from typing import Any, Final, NamedTuple

from agentsight_tokens.cycle import WIRE_VERSION, Cycle
from agentsight_tokens.errors import UnpricedModelWarning
from agentsight_tokens.pricing import CostEstimator
from agentsight_tokens.usage import USAGE_FIELDS, Scope, TokenUsage, UsageRecord, pico_usd

from .store import Store

__all__ = ["Seeding", "seed_store", "seeded_cycles"]

_usage_values: Final = attrgetter(*USAGE_FIELDS)
_HOUR: Final = timedelta(hours=1)
_BY_HOUR: Final = (
    *(0.20, 0.14, 0.11, 0.10, 0.12, 0.18, 0.35, 0.65),
    *(1.10, 1.50, 1.65, 1.60, 1.35, 1.50, 1.65, 1.60),
    *(1.45, 1.20, 0.95, 0.80, 0.70, 0.58, 0.42, 0.30),
)
"""How much is called in each hour of a day (UTC), beside the mean."""

_BY_WEEKDAY: Final = (1.15, 1.25, 1.25, 1.20, 1.05, 0.55, 0.50)
"""How much is called on each day of a week from Monday on, beside the mean."""

_GROWTH: Final = 2.5
"""How much more is called at the end than at the beginning."""

_CALLS_A_USER: Final = 1_500
_USERS_AN_ORG: Final = 40
_CALLS_A_BATCH: Final = 5_000
_BATCHES_WAITING: Final = 2
_LONGEST: Final = 24
"""Calls of a conversation."""


class Seeding(NamedTuple):
    """What is to be made."""

    calls: int
    months: int
    """Of 30 days, that the calls are spread over."""
    until: datetime
    """When they end, excluded; aware."""
    seed: int = 0


class _Model(NamedTuple):
    name: str
    provider: str
    handler: str | None
    tokens_per_second: float
    first_token_seconds: float


_MODELS: Final = (
    _Model("gpt-4o-mini-2024-07-18", "openai", "openai", 95, 0.45),
    _Model("gpt-4o-2024-08-06", "openai", "langchain", 70, 0.55),
    _Model("gpt-4.1-2025-04-14", "openai", "langchain", 75, 0.60),
    _Model("o3-mini-2025-01-31", "openai", "openai", 120, 3.5),
    _Model("claude-sonnet-4-20250514", "anthropic", "anthropic", 60, 1.1),
    _Model("claude-3-5-haiku-20241022", "anthropic", "langchain", 80, 0.7),
    _Model("gemini-2.5-flash", "google", "litellm", 150, 0.5),
    _Model("mistral-large-2411", "mistral", "litellm", 55, 0.8),
    _Model("house-llm-70b", "house", "litellm", 40, 0.9),
)
_EMBEDDING: Final = _Model("text-embedding-3-small", "openai", "llamaindex", 0, 0)
_MODEL_WEIGHTS: Final = (26, 18, 10, 6, 20, 8, 7, 2, 1)


class _Feature(NamedTuple):
    name: str
    agent: str | None
    input_tokens: float
    output_tokens: float
    calls: float
    """Medians, of the first call and of a conversation."""
    tools: tuple[str, ...] = ()


_FEATURES: Final = (
    _Feature("support-chat", "support", 1_400, 260, 4, ("search_orders", "refund")),
    _Feature("document-search", "retriever", 2_600, 180, 3, ("vector_search",)),
    _Feature("summaries", None, 6_000, 420, 1),
    _Feature("code-review", "reviewer", 9_000, 800, 5, ("read_file", "run_tests")),
    _Feature("email-drafts", None, 700, 320, 2),
    _Feature("data-import", "importer", 3_200, 900, 2, ("write_rows",)),
    _Feature("meeting-notes", None, 12_000, 700, 1),
    _Feature("research", "planner", 4_000, 1_100, 9, ("web_search", "read_page")),
    _Feature("translation", None, 900, 850, 1),
    _Feature("onboarding", "guide", 1_100, 240, 6),
)
_FEATURE_WEIGHTS: Final = (30, 18, 12, 10, 9, 6, 5, 5, 3, 2)
_ENVIRONMENTS: Final = ("production", "staging", "development")
_ENVIRONMENT_WEIGHTS: Final = (88, 8, 4)


def seeded_cycles(seeding: Seeding) -> Iterator[list[Cycle]]:
    """Make cycles of as many calls as asked for, those of each hour together, in its order."""
    company = _Company(seeding)
    since = seeding.until - timedelta(days=30 * seeding.months)
    hours = [since + n * _HOUR for n in range(seeding.months * 30 * 24)]
    weights = [
        _BY_HOUR[at.hour] * _BY_WEEKDAY[at.weekday()] * (1 + (_GROWTH - 1) * number / len(hours))
        for number, at in enumerate(hours)
    ]
    through = list(accumulate(weights))
    made = 0
    for at, reached in zip(hours, through, strict=True):
        quota = round(seeding.calls * reached / through[-1]) - made
        made += quota
        if quota:
            yield company.hour(at, quota)


def seed_store(store: Store, seeding: Seeding, progress: Callable[[int], object]) -> None:
    """
    Ingest the calls of a seeding.

    Args:
        store: Where they go.
        seeding: What is to be made.
        progress: Is called with the number of calls that have been stored since it was last.
    """
    with ThreadPoolExecutor(1) as writer:
        running: deque[tuple[Future[None], int]] = deque()
        for cycles in _batches(seeded_cycles(seeding)):
            running.append(
                (writer.submit(store.ingest, cycles), sum(cycle.calls for cycle in cycles))
            )
            while len(running) > _BATCHES_WAITING or (running and running[0][0].done()):
                _await(running, progress)
        while running:
            _await(running, progress)


def _await(running: deque[tuple[Future[None], int]], progress: Callable[[int], object]) -> None:
    stored, calls = running.popleft()
    stored.result()
    progress(calls)


def _batches(hours: Iterable[list[Cycle]]) -> Iterator[list[Cycle]]:
    """Put cycles together until they are worth a commit."""
    batch: list[Cycle] = []
    calls = 0
    for cycles in hours:
        for cycle in cycles:
            batch.append(cycle)
            calls += cycle.calls
            if calls >= _CALLS_A_BATCH:
                yield batch
                batch, calls = [], 0
    if batch:
        yield batch


class _Company:
    """Makes conversations."""

    def __init__(self, seeding: Seeding) -> None:
        self._chance = Random(seeding.seed)  # noqa: S311  # the same ones every time
        self._prices = {model: _Prices(model) for model in (*_MODELS, _EMBEDDING)}
        self._users = max(20, seeding.calls // _CALLS_A_USER)

    def hour(self, begins_at: datetime, calls: int) -> list[Cycle]:
        """Return the conversations that begin in an hour, of that many calls together."""
        chance = self._chance
        found = []
        left = calls
        while left:
            feature = chance.choices(_FEATURES, _FEATURE_WEIGHTS)[0]
            length = min(int(chance.lognormvariate(0, 0.7) * feature.calls) + 1, _LONGEST, left)
            left -= length
            found.append(self._conversation(begins_at + _HOUR * chance.random(), feature, length))
        return sorted(found, key=lambda cycle: cycle.opened_at)

    def _conversation(self, at: datetime, feature: _Feature, length: int) -> Cycle:
        chance = self._chance
        model = chance.choices(_MODELS, _MODEL_WEIGHTS)[0]
        user = int(self._users * chance.random() ** 3)  # a few call most of the time
        id = self._id(at)
        scope = Scope(
            conversation_id=id,
            session_id=id,
            user_id=f"user-{user:05}",
            org_id=f"org-{user // _USERS_AN_ORG:03}",
            agent=feature.agent,
            feature=feature.name,
        )
        tokens = chance.lognormvariate(0, 0.5) * feature.input_tokens
        cached = 0
        records = []
        for number in range(length):
            if feature.name == "document-search" and number == 0:
                record = self._embedding(at, scope)
            else:
                record = self._call(at, scope, feature, model, int(tokens), cached)
                cached = int(tokens)
                tokens += record.output_tokens + chance.lognormvariate(4, 0.8)
            records.append(record)
            at += timedelta(seconds=1 + chance.lognormvariate(2.7, 1))
        counts = list(map(sum, zip(*[_usage_values(r.usage) for r in records], strict=True)))
        return Cycle(
            version=WIRE_VERSION,
            key=f"{self._id(at)}:{id}:1",
            conversation_id=id,
            sealed_by="send",
            opened_at=records[0].at,
            sealed_at=records[-1].at + timedelta(seconds=1),
            environment=chance.choices(_ENVIRONMENTS, _ENVIRONMENT_WEIGHTS)[0],
            calls=length,
            unreported_calls=sum(record.is_unreported for record in records),
            unpriced_calls=sum(
                record.cost_pico_usd is None and bool(record.usage) for record in records
            ),
            cost_pico_usd=sum(record.cost_pico_usd or 0 for record in records),
            totals=TokenUsage(**dict(zip(USAGE_FIELDS, counts, strict=True))),
            records=tuple(records),
        )

    def _call(  # what a call is made of
        self,
        at: datetime,
        scope: Scope,
        feature: _Feature,
        model: _Model,
        input_tokens: int,
        cached: int,
    ) -> UsageRecord:
        chance = self._chance
        fate = chance.random()
        facts: dict[str, Any] = {
            "id": self._id(at),
            "at": at,
            "scope": scope,
            "model": model.name,
            "provider": model.provider,
            "handler": model.handler,
        }
        if feature.tools and chance.random() < 0.3:
            facts["tool_name"] = chance.choice(feature.tools)
        if fate < 0.025:
            return UsageRecord(
                **facts,
                status="error" if fate < 0.018 else "cancelled",
                error_type="RateLimitError" if fate < 0.012 else None,
                unreported_reason="error_without_usage" if fate < 0.018 else "cancelled",
            )
        output = 1 + int(chance.lognormvariate(0, 0.6) * feature.output_tokens)
        usage = {"input_tokens": max(input_tokens, 20), "output_tokens": output}
        if cached >= 1_024 and chance.random() < 0.75:
            usage["cache_read_tokens"] = cached // 128 * 128
        elif model.provider == "anthropic" and input_tokens > 2_000:
            usage["cache_creation_tokens"] = input_tokens - input_tokens % 100
        if model.name.startswith("o3"):
            usage["reasoning_tokens"] = output * 2 // 3
        first_token = model.first_token_seconds * chance.lognormvariate(0, 0.4)
        is_streamed = chance.random() < 0.7
        duration = first_token + output / (model.tokens_per_second * chance.uniform(0.7, 1.2))
        return UsageRecord(
            **facts,
            usage=TokenUsage(**usage),
            source="estimated" if fate > 0.994 else "provider",
            service_tier="flex" if model.provider == "openai" and fate > 0.96 else None,
            response_id=f"resp_{chance.getrandbits(96):024x}",
            duration_seconds=round(duration, 6),
            time_to_first_token_seconds=round(first_token, 6) if is_streamed else None,
            **self._prices[model].of(usage),
        )

    def _embedding(self, at: datetime, scope: Scope) -> UsageRecord:
        tokens = 5 + int(self._chance.lognormvariate(3.5, 0.7))
        return UsageRecord(
            id=self._id(at),
            at=at,
            scope=scope,
            operation="embedding",
            model=_EMBEDDING.name,
            provider=_EMBEDDING.provider,
            handler=_EMBEDDING.handler,
            usage=TokenUsage(embedding_tokens=tokens),
            duration_seconds=round(self._chance.uniform(0.05, 0.4), 6),
            **self._prices[_EMBEDDING].of({"embedding_tokens": tokens}),
        )

    def _id(self, at: datetime) -> str:
        """Return a UUID of version 7 as 32 hexadecimal digits."""
        head = int(at.timestamp() * 1000) << 16 | 0x7000 | self._chance.getrandbits(12)
        tail = self._chance.getrandbits(62) | 0x8000_0000_0000_0000
        return f"{head << 64 | tail:032x}"


class _Prices:
    """What a token of each kind costs, asked once."""

    def __init__(self, model: _Model) -> None:
        estimator = CostEstimator()
        self._rates: dict[str, int] = {}
        for kind, fields in {
            "input_tokens": {"input_tokens": 1000},
            "output_tokens": {"output_tokens": 1000},
            "cache_read_tokens": {"input_tokens": 1000, "cache_read_tokens": 1000},
            "cache_creation_tokens": {"input_tokens": 1000, "cache_creation_tokens": 1000},
            "embedding_tokens": {"embedding_tokens": 1000},
        }.items():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UnpricedModelWarning)  # one has no price, by intent
                cost = estimator.estimate(
                    model=model.name, provider=model.provider, usage=TokenUsage(**fields)
                )
            if cost.total_cost is not None:
                self._rates[kind] = pico_usd(cost.total_cost) // 1000
            self._status = cost.status
            self._row = {"price_key": cost.matched_key, "price_version": cost.price_version}

    def of(self, usage: dict[str, int]) -> dict[str, Any]:
        """Return the fields of a record that tell its cost."""
        rates = self._rates
        if not rates:
            return {"cost_status": "unpriced"}
        read, written = (usage.get(f"cache_{name}_tokens", 0) for name in ("read", "creation"))
        plain = usage.get("input_tokens", 0) - read - written
        prompt = plain * rates["input_tokens"] + read * rates["cache_read_tokens"]
        prompt += written * rates["cache_creation_tokens"]
        prompt += usage.get("embedding_tokens", 0) * rates["embedding_tokens"]
        completion = usage.get("output_tokens", 0) * rates["output_tokens"]
        return {
            "cost_pico_usd": prompt + completion,
            "prompt_cost_pico_usd": prompt,
            "completion_cost_pico_usd": completion,
            "cost_status": "priced",
            **self._row,
        }
