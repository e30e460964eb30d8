"""From the spans of a request to what is stored, and what is said of the others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from agentsight_tokens.backend.store import DEFAULT_PROJECT_ID, Store
from agentsight_tokens.config import TokenConfig
from agentsight_tokens.cycle import Cycle
from agentsight_tokens.errors import UnstorableError
from agentsight_tokens.pricing import CostEstimator
from agentsight_tokens.usage import Operation, TokenUsage, UsageRecord

from .attribution import environment_of, text_of
from .call import own_record, record_of
from .counts import usage_of
from .kind import operation_of
from .names import RESPONSE_ID
from .response import response_of
from .span import Span, SpanError
from .trace import Member, MemberKind
from .trace_log import Total, TraceLog

__all__ = ["Meter", "Taken", "take_spans"]

_NO_TRACE: Final = "0" * 32
_NO_SPAN: Final = "0" * 16


class Meter(NamedTuple):
    """What gives calls their price, and their users' ids their form."""

    estimator: CostEstimator
    config: TokenConfig


class Taken(NamedTuple):
    """What became of the spans of a request."""

    rejected: int
    """How many cannot be read or stored; all others are on disk, or tell of nothing used."""
    reason: str
    """Why the first of them cannot."""
    calls: int
    """How many calls were stored, those that were known included."""


class _Reading(NamedTuple):
    """A span, and what it says."""

    span: Span
    operation: Operation | None
    usage: TokenUsage | None
    record: UsageRecord | None
    """That of a span which carries its own."""

    @property
    def kind(self) -> MemberKind:
        if self.operation is None:
            return "other" if self.usage is None else "total"
        return "silent" if self.usage is None else "used"


def take_spans(
    store: Store,
    spans: Iterable[Span],
    meter: Meter,
    *,
    project_id: int = DEFAULT_PROJECT_ID,
    log: TraceLog | None = None,
    on_stored: Callable[[Sequence[Cycle]], object] = len,
) -> Taken:
    """
    Store the calls among spans, each once for ever.

    Args:
        store: Where they go.
        spans: Those of a request; a `ValueError` of theirs ends it, and nothing is stored.
        meter: What prices the calls.
        project_id: Whose they are.
        log: What knows the traces; by the time that it is if None.
        on_stored: Is told of the cycles that are on disk.

    Raises:
        Exception: What the store raises when it cannot be written; it must be sent again.
    """
    faults: list[str] = []
    traces: dict[str, dict[str, _Reading]] = defaultdict(dict)
    for span in spans:
        reading = _read(span)
        if isinstance(reading, str):
            faults.append(f"the span {span.name[:100]!r} ({span.span_id}): {reading}")
        else:
            traces[span.trace_id].setdefault(span.span_id, reading)
    log = log or TraceLog(store)
    cycles = _counted_cycles(log, traces, meter, project_id) if traces else []
    calls = sum(cycle.calls for cycle in cycles)

    def take(cycles: Sequence[Cycle]) -> None:
        store.ingest(cycles, project_id=project_id)
        on_stored(cycles)

    unstorable = _store(take, cycles)
    faults += unstorable
    return Taken(len(faults), faults[0] if faults else "", calls - len(unstorable))


def _read(span: Span) -> _Reading | str:
    """Return what a span says, or why it cannot be read."""
    try:
        return _reading(span)
    except SpanError as error:
        return str(error)


def _reading(span: Span) -> _Reading:
    if len(span.trace_id) != len(_NO_TRACE) or span.trace_id == _NO_TRACE:
        raise SpanError(f"a trace's id has 16 bytes, not all zero, and not {span.trace_id!r}")
    if len(span.span_id) != len(_NO_SPAN) or span.span_id == _NO_SPAN:
        raise SpanError(f"a span's id has 8 bytes, not all zero, and not {span.span_id!r}")
    record = own_record(span)
    if record is not None:
        usage = None if record.is_unreported else record.usage
        return _Reading(span, record.operation, usage, record)
    operation = operation_of(span.attributes)
    usage = usage_of(span.attributes, is_embedding=operation == "embedding")
    if span.end_ns <= 0 and (operation is not None or usage is not None):
        raise SpanError("it does not say when it ended")
    return _Reading(span, operation, usage, None)


def _counted_cycles(
    log: TraceLog, traces: Mapping[str, Mapping[str, _Reading]], meter: Meter, project_id: int
) -> list[Cycle]:
    """Return the calls that count, by their conversations."""
    groups = {
        trace_id: [_member(reading) for reading in readings.values()]
        for trace_id, readings in traces.items()
    }
    totals = [
        Total(trace_id, reading.span.span_id, _cycle(*_key(reading, record), [record]))
        for trace_id, readings in traces.items()
        for reading, record in _records(
            readings, {each.span_id for each in groups[trace_id] if each.kind == "total"}, meter
        )
    ]
    responses = {
        (trace_id, span_id): response_of(reading.span, id, is_used=reading.kind == "used")
        for trace_id, readings in traces.items()
        for span_id, reading in readings.items()
        if reading.operation is not None
        for id in (text_of(reading.span.attributes, RESPONSE_ID),)
        if id is not None
    }
    counted = log.add(groups, totals, responses, project_id=project_id)
    records: dict[tuple[str, str | None], list[UsageRecord]] = defaultdict(list)
    for trace_id, readings in traces.items():
        calls = {each.span_id for each in groups[trace_id] if each.kind in ("used", "silent")}
        for reading, record in _records(readings, calls & counted[trace_id], meter):
            records[_key(reading, record)].append(record)
    return [_cycle(*key, calls) for key, calls in records.items()]


def _records(
    readings: Mapping[str, _Reading], span_ids: Collection[str], meter: Meter
) -> Iterator[tuple[_Reading, UsageRecord]]:
    """Yield the records of some spans of a trace, with their prices."""
    if not span_ids:
        return
    spans = {span_id: reading.span for span_id, reading in readings.items()}
    for span_id, reading in readings.items():
        if span_id in span_ids:
            yield (
                reading,
                reading.record
                or meter.estimator.priced(
                    record_of(
                        reading.span,
                        spans,
                        operation=reading.operation or "chat",
                        usage=reading.usage,
                        config=meter.config,
                    )
                ),
            )


def _key(reading: _Reading, record: UsageRecord) -> tuple[str, str | None]:
    """Return the conversation and the environment of a call."""
    conversation_id = record.scope.conversation_id or reading.span.trace_id
    return conversation_id, environment_of(reading.span)


def _member(reading: _Reading) -> Member:
    span = reading.span
    return Member(
        span.span_id,
        span.parent_id,
        reading.kind,
    )


def _cycle(conversation_id: str, environment: str | None, records: list[UsageRecord]) -> Cycle:
    first = min(record.id for record in records)
    return Cycle.of(
        records,
        key=f"otlp:{first}:{len(records)}",
        conversation_id=conversation_id,
        sealed_by="send",
        sealed_at=max(record.at for record in records),
        environment=environment,
    )


def _store(take: Callable[[Sequence[Cycle]], object], cycles: Sequence[Cycle]) -> list[str]:
    """Store cycles; return why each call that cannot be stored cannot."""
    if not cycles:
        return []
    try:
        take(cycles)
    except UnstorableError as error:
        if len(cycles) == 1 and cycles[0].calls == 1:
            return [str(error)]
        return [fault for part in _parts(cycles) for fault in _store(take, part)]
    return []


def _parts(cycles: Sequence[Cycle]) -> list[list[Cycle]]:
    """Return the halves of cycles, or of the calls of a single one."""
    if len(cycles) > 1:
        middle = len(cycles) // 2
        return [list(cycles[:middle]), list(cycles[middle:])]
    [cycle] = cycles
    middle = cycle.calls // 2
    halves = (cycle.records[:middle], cycle.records[middle:])
    return [[_cycle(cycle.conversation_id, cycle.environment, list(half))] for half in halves]
