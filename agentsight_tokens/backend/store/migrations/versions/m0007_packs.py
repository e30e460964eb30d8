"""Packs: the calls of a day or an hour, column by column."""

from __future__ import annotations

from typing import Final

from alembic import op

revision: Final = "0007"
down_revision: Final = "0006"


def upgrade() -> None:
    """Make the table; the server fills it."""
    op.execute(
        """CREATE TABLE packed_calls (
          project_id bigint NOT NULL,
          period text COLLATE "C" NOT NULL,
          start bigint NOT NULL,
          name text COLLATE "C" NOT NULL,
          data bytea NOT NULL,
          PRIMARY KEY (project_id, period, start, name))"""
    )
    # Numbers are in as few bytes as they take already; what is compressed is slow to read.
    op.execute("ALTER TABLE packed_calls ALTER COLUMN data SET STORAGE EXTERNAL")
