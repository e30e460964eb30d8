"""What is known of traces, and the totals of agents that wait."""

from __future__ import annotations

from typing import Final

from alembic import op

revision: Final = "0004"
down_revision: Final = "0003"

_STATEMENTS: Final = (
    """CREATE TABLE span_traces (
      project_id bigint NOT NULL,
      trace_id text COLLATE "C" NOT NULL,
      touched_at bigint NOT NULL,
      members text COLLATE "C" NOT NULL,
      PRIMARY KEY (project_id, trace_id)) WITH (fillfactor = 70)""",
    "CREATE INDEX span_traces_of_time ON span_traces (touched_at)",
    """CREATE TABLE held_totals (
      project_id bigint NOT NULL,
      trace_id text COLLATE "C" NOT NULL,
      span_id text COLLATE "C" NOT NULL,
      due_at bigint NOT NULL,
      cycle text NOT NULL,
      is_counted bigint NOT NULL,
      PRIMARY KEY (project_id, trace_id, span_id))""",
    "CREATE INDEX held_totals_of_time ON held_totals (due_at)",
)


def upgrade() -> None:
    """Make the tables."""
    for statement in _STATEMENTS:
        op.execute(statement)
