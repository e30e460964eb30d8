"""Calls as spans of opentelemetry-sdk, by the GenAI conventions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import sha256

import msgspec
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags
from opentelemetry.trace.status import Status, StatusCode

from agentsight_tokens.attributes import span_attributes
from agentsight_tokens.calls import microseconds
from agentsight_tokens.cycle import Cycle
from agentsight_tokens.pricing import CostEstimator
from agentsight_tokens.usage import UsageRecord

from .otlp_source import resource_of, scope

__all__ = ["Dialect", "spans_of"]

AttributeValue = str | bool | int | float | Sequence[str]
Dialect = Callable[[UsageRecord, str | None], Mapping[str, AttributeValue]]
"""Returns what a vendor wants to be told of a call; the second argument is the environment."""

_ERROR = Status(StatusCode.ERROR)
_OK = Status(StatusCode.UNSET)


def spans_of(
    cycles: Sequence[Cycle],
    dialect: Dialect | None = None,
    estimator: CostEstimator | None = None,
) -> list[ReadableSpan]:
    """Return a span for each call, with no parent: the conversation's id holds them together."""
    return [span for cycle in cycles for span in _spans_of(cycle, dialect, estimator)]


def _spans_of(
    cycle: Cycle, dialect: Dialect | None, estimator: CostEstimator | None
) -> Iterator[ReadableSpan]:
    for record in cycle.records:
        attributes = _attributes(record, cycle, estimator)
        if dialect is not None:
            attributes.update(dialect(record, cycle.environment))
        else:
            # Our own server takes it as it is; the conventions have no words for some of it.
            attributes["agentsight.record"] = msgspec.json.encode(record).decode()
        end = microseconds(record.at) * 1000
        digest = sha256(record.id.encode()).digest()
        yield ReadableSpan(
            name=" ".join(
                filter(None, (str(attributes.get("gen_ai.operation.name", "call")), record.model))
            ),
            context=SpanContext(
                trace_id=int.from_bytes(digest[:16], "big") or 1,
                span_id=int.from_bytes(digest[16:24], "big") or 1,
                is_remote=False,
                trace_flags=TraceFlags(TraceFlags.SAMPLED),
            ),
            resource=resource_of(cycle.environment),
            attributes=attributes,
            kind=SpanKind.CLIENT,
            status=_OK if record.status == "ok" else _ERROR,
            start_time=end - int((record.duration_seconds or 0) * 1e9),
            end_time=end,
            instrumentation_scope=scope(),
        )


def _attributes(
    record: UsageRecord, cycle: Cycle, estimator: CostEstimator | None
) -> dict[str, AttributeValue]:
    # Whoever hashes user ids has done so before the record was made.
    found: dict[str, AttributeValue] = dict(
        span_attributes(record, semconv="both", estimator=estimator, hash_user_id=str)
    )
    more: dict[str, AttributeValue | None] = {
        "agentsight.cycle.key": cycle.key,
        "agentsight.record.id": record.id,
        "agentsight.tags": record.scope.tags or None,
        "gen_ai.request.model": record.model,
        "gen_ai.usage.cost": None if record.cost is None else float(record.cost),
        "user.id": record.scope.user_id,
    }
    return found | {name: value for name, value in more.items() if value is not None}
