"""Calls as metrics of opentelemetry-sdk, by the GenAI conventions."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    ResourceMetrics,
    ScopeMetrics,
)

from agentsight_tokens.attributes import span_attributes
from agentsight_tokens.calls import microseconds
from agentsight_tokens.cycle import Cycle
from agentsight_tokens.usage import UsageRecord

from .otlp_source import resource_of, scope

__all__ = ["metrics_of", "points_in"]

TOKEN_BOUNDS: Final = tuple(4.0**power for power in range(14))
SECOND_BOUNDS: Final = tuple(0.01 * 2**power for power in range(14))
"""As https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-metrics says, read 2026-11-22."""
_DIMENSIONS: Final = (
    "gen_ai.operation.name",
    "gen_ai.provider.name",
    "gen_ai.response.model",
    "error.type",
)
_Key = tuple[tuple[str, str], ...]


def metrics_of(cycles: Sequence[Cycle]) -> MetricsData:
    """Return what the calls used and took, as deltas of two histograms for each environment."""
    by_environment: dict[str | None, list[UsageRecord]] = defaultdict(list)
    for cycle in cycles:
        by_environment[cycle.environment].extend(cycle.records)
    return MetricsData(
        [
            ResourceMetrics(
                resource_of(name),
                [ScopeMetrics(scope(), _metrics(records), "")],
                "",
            )
            for name, records in by_environment.items()
        ]
    )


def points_in(data: MetricsData) -> int:
    """Return how many data points there are."""
    return sum(
        len(metric.data.data_points)
        for resource in data.resource_metrics
        for part in resource.scope_metrics
        for metric in part.metrics
    )


def _metrics(records: Sequence[UsageRecord]) -> list[Metric]:
    tokens: dict[_Key, list[float]] = defaultdict(list)
    seconds: dict[_Key, list[float]] = defaultdict(list)
    for record in records:
        key = _key(record)
        for kind, count in _tokens(record):
            with_kind = (*key, ("gen_ai.token.type", kind))
            tokens[with_kind].append(count)
        if record.duration_seconds is not None:
            seconds[key].append(record.duration_seconds)
    times = [microseconds(record.at) * 1000 for record in records]
    span = (min(times), max(times))
    return [
        _metric("gen_ai.client.token.usage", "{token}", tokens, TOKEN_BOUNDS, span),
        _metric("gen_ai.client.operation.duration", "s", seconds, SECOND_BOUNDS, span),
    ]


def _key(record: UsageRecord) -> _Key:
    attributes = span_attributes(record, semconv="genai")
    return tuple((name, str(attributes[name])) for name in _DIMENSIONS if name in attributes)


def _tokens(record: UsageRecord) -> Iterator[tuple[str, int]]:
    if not record.is_unreported:
        yield "input", record.usage.input_tokens + record.usage.embedding_tokens
        yield "output", record.usage.output_tokens


def _metric(
    name: str,
    unit: str,
    values: Mapping[_Key, Sequence[float]],
    bounds: Sequence[float],
    span: tuple[int, int],
) -> Metric:
    points = [_point(key, numbers, bounds, span) for key, numbers in values.items()]
    return Metric(name, "", unit, Histogram(points, AggregationTemporality.DELTA))


def _point(
    key: _Key, numbers: Sequence[float], bounds: Sequence[float], span: tuple[int, int]
) -> HistogramDataPoint:
    buckets = [0] * (len(bounds) + 1)
    for number in numbers:
        buckets[bisect_left(bounds, number)] += 1
    return HistogramDataPoint(
        attributes=dict(key),
        start_time_unix_nano=span[0],
        time_unix_nano=span[1],
        count=len(numbers),
        sum=sum(numbers),
        bucket_counts=buckets,
        explicit_bounds=bounds,
        min=min(numbers),
        max=max(numbers),
    )
