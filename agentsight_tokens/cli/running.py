"""What processes have counted and not sent yet, read beside them without touching anything."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Final, NamedTuple

from agentsight_tokens.calls import summary_columns, summary_of_row
from agentsight_tokens.journal import read_journal, segments
from agentsight_tokens.ledger import LEDGER_FILE
from agentsight_tokens.outbox import Outbox
from agentsight_tokens.summary import UsageSummary

__all__ = ["OpenConversation", "open_conversations"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)
_WAIT_SECONDS: Final = 0.2
_OPEN: Final = (
    f"SELECT conversation_id, user_id, session_id, MAX(at), {summary_columns()} FROM calls "  # noqa: S608  # our own names
    "WHERE sequence IN (SELECT sequence FROM calls EXCEPT SELECT sequence FROM cycles) "
    "GROUP BY conversation_id"  # of the other columns SQLite takes the newest call's
)


class OpenConversation(NamedTuple):
    """What a conversation has used since it was last sent."""

    conversation_id: str
    user_id: str | None
    session_id: str | None
    last_at: datetime
    """When the newest of its calls ended."""
    usage: UsageSummary

    def merged(self, other: OpenConversation) -> OpenConversation:
        """Return the sum with another part of the same conversation."""
        newer = max(self, other, key=lambda each: each.last_at)
        return newer._replace(usage=UsageSummary.merged([self.usage, other.usage]))


def open_conversations(directory: Path) -> dict[str, OpenConversation]:
    """
    Return the open cycles of every process that writes to a data directory.

    Nothing is written or locked, so a process is never held up by who looks at it. A cycle that
    is being sealed at this moment may be missing until the next look.
    """
    found: dict[str, OpenConversation] = {}
    outbox = Outbox(directory)
    for folder in outbox.folders():
        # A folder that goes away meanwhile is one whose cycles were delivered.
        with contextlib.suppress(OSError, sqlite3.Error):
            for part in [*_of_process(folder)]:
                known = found.get(part.conversation_id)
                found[part.conversation_id] = part.merged(known) if known else part
    return found


def _of_process(folder: Path) -> Iterator[OpenConversation]:
    uri = f"{(folder / LEDGER_FILE).as_uri()}?mode=ro"
    connection = sqlite3.connect(uri, uri=True, timeout=_WAIT_SECONDS, isolation_level=None)
    with contextlib.closing(connection):
        connection.execute("BEGIN")  # both answers are of the same moment
        folded = dict(connection.execute("SELECT segment, position FROM folded"))
        rows = connection.execute(_OPEN).fetchall()
    for conversation_id, user_id, session_id, at, *sums in rows:
        last_at = _EPOCH + timedelta(microseconds=at)
        usage = summary_of_row(sums)
        yield OpenConversation(conversation_id or "-", user_id, session_id, last_at, usage)
    for path in segments(folder):
        for entry in read_journal(path, folded.get(path.name, 0)):
            if entry.record is not None:
                scope = entry.record.scope
                yield OpenConversation(
                    scope.conversation_id or "-",
                    scope.user_id,
                    scope.session_id,
                    entry.record.at,
                    UsageSummary.of_calls([entry.record]),
                )
