"""
The importer: rows of a source become cycles, which a destination acknowledges.

A batch is delivered, then what was set aside of it is written, then the cursor moves: whatever
is interrupted is done again, and what comes again is known by its id.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import reduce
from hashlib import blake2b
from itertools import islice
from operator import add
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from agentsight_tokens.config import TokenConfig
from agentsight_tokens.cycle import Cycle
from agentsight_tokens.destinations import Destination
from agentsight_tokens.errors import AgentSightError, DeliveryRefusedError
from agentsight_tokens.pricing import CostEstimator
from agentsight_tokens.usage import TokenUsage, UsageRecord
from agentsight_tokens.whole_scopes import WholeScopes

from .cursor import Cursor, CursorFile
from .langfuse_exports import langfuse_call
from .litellm_logs import litellm_call
from .response_logs import response_call
from .row import Call, Defaults, RowError, SkippedRow
from .source import Format, Row, Source

__all__ = ["Importer", "Progress", "Summary"]

_ROWS_A_BATCH: Final = 500
_FAULTS_KEPT: Final = 5

Progress = Callable[["Summary"], object]
"""Is told after each batch how far it is."""


class Summary(msgspec.Struct):
    """What became of the rows of a source."""

    source: str
    format: Format
    resumed_after: int = 0
    """The rows that an earlier run had done."""
    rows: int = 0
    calls: int = 0
    unreported_calls: int = 0
    unpriced_calls: int = 0
    usage: TokenUsage = TokenUsage()
    cost_pico_usd: int = 0
    skipped: Counter[str] = msgspec.field(default_factory=Counter)
    """Rows that are no calls, by why."""
    set_aside: int = 0
    faults: list[str] = msgspec.field(default_factory=list)
    """The first rows that were set aside: their numbers and why."""
    set_aside_file: str | None = None
    unpriced_models: Counter[str] = msgspec.field(default_factory=Counter)
    offset: int = 0


class _Fault(NamedTuple):
    row: Row
    reason: str


class Importer:
    """Imports sources into a destination."""

    def __init__(
        self,
        destination: Destination | None,
        estimator: CostEstimator,
        config: TokenConfig,
        defaults: Defaults,
    ) -> None:
        """
        Set an import up.

        Args:
            destination: Where the calls go; None to look only.
            estimator: What prices them.
            config: Where cursors are, and whether users' ids are hashed.
            defaults: What is taken where a row says nothing.
        """
        self._destination = destination
        self._estimator = estimator
        self._config = config
        self._defaults = defaults

    def run(
        self,
        source: Source,
        form: Format,
        *,
        restart: bool = False,
        progress: Progress = lambda _: None,
    ) -> Summary:
        """
        Import a source from where the last run ended, and return what became of its rows.

        Args:
            source: The source.
            form: What its rows are.
            restart: Whether to begin at the first row again.
            progress: Is told after each batch.

        Raises:
            DestinationError: If the destination does not take the calls now; the next run goes on
                where this one ended.
        """
        summary = Summary(source.path, form)
        file = self._cursor_file(source, form)
        cursor = None
        if file is not None:
            if restart:
                file.forget()
            cursor = file.load(source.head())
            summary.resumed_after = cursor.rows
        start = cursor or Cursor(path="", head="", head_bytes=0)
        rows = _readable(source.rows(after=start.rows, offset=start.offset), summary)
        while batch := list(islice(rows, _ROWS_A_BATCH)):
            faults = self._batch(source, form, batch, summary)
            self._set_aside(source, file, faults, summary)
            summary.rows += len(batch)
            summary.offset = batch[-1].end
            if file is not None and cursor is not None:
                done = msgspec.structs.replace(cursor, rows=batch[-1].number, offset=batch[-1].end)
                file.save(done)
            progress(summary)
        return summary

    def _cursor_file(self, source: Source, form: Format) -> CursorFile | None:
        if source.is_stdin or self._destination is None:
            return None
        return CursorFile(
            self._config.directory, source.path, destination=self._destination.identity, form=form
        )

    def _batch(
        self, source: Source, form: Format, rows: Sequence[Row], summary: Summary
    ) -> list[_Fault]:
        """Deliver the calls of rows; return which rows are set aside."""
        faults: list[_Fault] = []
        by_id: dict[str, Row] = {}
        calls: list[Call] = []
        for row in rows:
            found = self._call(source, form, row)
            if isinstance(found, Call):
                by_id[found.record.id] = row
                calls.append(found)
            elif isinstance(found, SkippedRow):
                summary.skipped[str(found)] += 1
            else:
                faults.append(_Fault(row, str(found)))
        cycles = self._cycles(source, calls)
        refused = self._deliver(cycles)
        faults += [_Fault(by_id[id], reason) for id, reason in refused.items() if id in by_id]
        _add(summary, [r for cycle in cycles for r in cycle.records if r.id not in refused])
        return sorted(faults, key=lambda fault: fault.row.number)

    def _call(self, source: Source, form: Format, row: Row) -> Call | SkippedRow | RowError:
        if row.fields is None:
            return RowError(row.fault)
        try:
            call = _read(source, form, row, self._defaults)
            scopes = WholeScopes(conversation_id=f"import:{source.name}", config=self._config)
            record = self._estimator.priced(call.record, scope=scopes[call.record.scope])
        except (RowError, SkippedRow) as outcome:
            return outcome
        except (AgentSightError, RecursionError) as error:
            return RowError(str(error))
        return Call(record, call.environment)

    def _cycles(self, source: Source, calls: Iterable[Call]) -> list[Cycle]:
        found: dict[tuple[str, str | None], dict[str, UsageRecord]] = defaultdict(dict)
        for record, environment in calls:
            conversation_id = record.scope.conversation_id or f"import:{source.name}"
            found[conversation_id, environment].setdefault(record.id, record)
        return [
            Cycle.of(
                list(records.values()),
                key=f"import:{min(records)}:{len(records)}",
                conversation_id=conversation_id,
                sealed_by="send",
                sealed_at=max(record.at for record in records.values()),
                environment=environment,
            )
            for (conversation_id, environment), records in found.items()
        ]

    def _deliver(self, cycles: Sequence[Cycle]) -> dict[str, str]:
        """Deliver cycles; return why each record that is refused is."""
        if self._destination is None or not cycles:
            return {}
        try:
            outcomes = self._destination.deliver(cycles)
        except DeliveryRefusedError as error:
            records = [record for cycle in cycles for record in cycle.records]
            if len(records) == 1:
                return {records[0].id: str(error)}
            middle = len(records) // 2
            return self._deliver(_of(cycles, records[:middle])) | self._deliver(
                _of(cycles, records[middle:])
            )
        refused: dict[str, str] = {}
        for cycle, outcome in zip(cycles, outcomes, strict=True):
            if not outcome.is_accepted:
                refused.update((r.id, outcome.reason or "refused") for r in cycle.records)
            refused.update(outcome.refused or {})
        return refused

    def _set_aside(
        self, source: Source, file: CursorFile | None, faults: Sequence[_Fault], summary: Summary
    ) -> None:
        for fault in faults:
            if len(summary.faults) < _FAULTS_KEPT:
                summary.faults.append(f"{fault.row.number}: {fault.reason}")
        summary.set_aside += len(faults)
        if not faults or self._destination is None:
            return
        path = file.set_aside if file else self._config.directory / "imports" / "stdin.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        summary.set_aside_file = str(path)
        with Path(path).open("ab") as lines:
            for row, reason in faults:
                line = {"source": source.path, "row": row.number, "reason": reason}
                lines.write(msgspec.json.encode(line | {"content": row.content}) + b"\n")


def _readable(rows: Iterable[Row], summary: Summary) -> Iterator[Row]:
    """Yield the rows up to where a source cannot be read on."""
    try:
        yield from rows
    except (RowError, EOFError, OSError) as error:
        summary.faults.append(f"the rest of the file: {error}")


def _read(source: Source, form: Format, row: Row, defaults: Defaults) -> Call:
    fields = row.fields or {}
    if form == "litellm":
        return litellm_call(fields, defaults)
    if form == "langfuse":
        return langfuse_call(fields, defaults)
    digest = blake2b(row.content.encode("utf-8", "replace"), digest_size=16).hexdigest()
    return response_call(fields, defaults, unique=f"{source.name}:{row.number}:{digest}")


def _of(cycles: Iterable[Cycle], records: Sequence[UsageRecord]) -> list[Cycle]:
    """Return cycles with these of their records only."""
    kept = {record.id for record in records}
    found = []
    for cycle in cycles:
        its = [record for record in cycle.records if record.id in kept]
        if its:
            found.append(
                Cycle.of(
                    its,
                    key=f"{cycle.key}:{its[0].id}",
                    conversation_id=cycle.conversation_id,
                    sealed_by=cycle.sealed_by,
                    sealed_at=cycle.sealed_at,
                    environment=cycle.environment,
                )
            )
    return found


def _add(summary: Summary, records: Sequence[UsageRecord]) -> None:
    summary.calls += len(records)
    summary.usage = reduce(add, (record.usage for record in records), summary.usage)
    for record in records:
        summary.unreported_calls += record.is_unreported
        if record.cost_pico_usd is not None:
            summary.cost_pico_usd += record.cost_pico_usd
        elif record.usage:
            summary.unpriced_calls += 1
            summary.unpriced_models[record.model or "(no model)"] += 1
