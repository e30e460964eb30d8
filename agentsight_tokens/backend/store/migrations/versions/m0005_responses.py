"""Which responses were seen, and by which instrumentation."""

from __future__ import annotations

from typing import Final

from alembic import op

revision: Final = "0005"
down_revision: Final = "0004"

_STATEMENTS: Final = (
    """CREATE TABLE span_responses (
      project_id bigint NOT NULL,
      response text COLLATE "C" NOT NULL,
      library text COLLATE "C" NOT NULL,
      is_used bigint NOT NULL,
      began_at bigint NOT NULL,
      ended_at bigint NOT NULL,
      touched_at bigint NOT NULL,
      PRIMARY KEY (project_id, response)) WITH (fillfactor = 70)""",
    "CREATE INDEX span_responses_of_time ON span_responses (touched_at)",
)


def upgrade() -> None:
    """Make the table."""
    for statement in _STATEMENTS:
        op.execute(statement)
