"""Budgets, what is used of them, their alerts, and the messages that tell of these."""

from __future__ import annotations

from typing import Final

from alembic import op

revision: Final = "0003"
down_revision: Final = "0002"

_TABLES: Final = (
    """CREATE TABLE budgets (
      project_id bigint NOT NULL,
      id text COLLATE "C" NOT NULL,
      name text COLLATE "C" NOT NULL,
      scope text COLLATE "C" NOT NULL,
      value text COLLATE "C" NOT NULL,
      period text COLLATE "C" NOT NULL,
      timezone text COLLATE "C" NOT NULL,
      token_limit bigint,
      cost_limit_pico_usd bigint,
      levels text COLLATE "C" NOT NULL,
      webhook_urls text COLLATE "C" NOT NULL,
      webhook_secret text COLLATE "C",
      enabled bigint NOT NULL,
      counts_since bigint,
      created_at bigint NOT NULL,
      updated_at bigint NOT NULL,
      PRIMARY KEY (project_id, id))""",
    # What tells a server that the budgets which it remembers have changed.
    """CREATE TABLE budget_versions (
      project_id bigint PRIMARY KEY,
      version bigint NOT NULL)""",
    """CREATE TABLE budget_usage (
      project_id bigint NOT NULL,
      budget_id text COLLATE "C" NOT NULL,
      key text COLLATE "C" NOT NULL,
      window_start bigint NOT NULL,
      calls bigint NOT NULL,
      unreported_calls bigint NOT NULL,
      unpriced_calls bigint NOT NULL,
      estimated_calls bigint NOT NULL,
      cost_micro_usd bigint NOT NULL,
      cost_rest_pico_usd bigint NOT NULL,
      tokens bigint NOT NULL,
      PRIMARY KEY (project_id, budget_id, key, window_start)) WITH (fillfactor = 70)""",
    "CREATE INDEX budget_usage_of_window ON budget_usage (project_id, budget_id, window_start)",
    """CREATE TABLE alerts (
      project_id bigint NOT NULL,
      budget_id text COLLATE "C" NOT NULL,
      key text COLLATE "C" NOT NULL,
      window_start bigint NOT NULL,
      unit text COLLATE "C" NOT NULL,
      level_millionths bigint NOT NULL,
      id text COLLATE "C" NOT NULL,
      budget_name text COLLATE "C" NOT NULL,
      scope text COLLATE "C" NOT NULL,
      period text COLLATE "C" NOT NULL,
      resets_at bigint,
      used text COLLATE "C" NOT NULL,
      limit_amount text COLLATE "C" NOT NULL,
      at bigint NOT NULL,
      PRIMARY KEY (project_id, budget_id, key, window_start, unit, level_millionths))""",
    "CREATE INDEX alerts_of_project ON alerts (project_id, at, id)",
    "CREATE INDEX alerts_of_id ON alerts (project_id, id)",
    """CREATE TABLE webhook_deliveries (
      project_id bigint NOT NULL,
      alert_id text COLLATE "C" NOT NULL,
      number bigint NOT NULL,
      url text COLLATE "C" NOT NULL,
      state text COLLATE "C" NOT NULL,
      attempts bigint NOT NULL,
      due_at bigint NOT NULL,
      ended_at bigint,
      error text COLLATE "C",
      PRIMARY KEY (project_id, alert_id, number))""",
    "CREATE INDEX webhook_deliveries_due ON webhook_deliveries (due_at) WHERE state = 'waiting'",
)


def upgrade() -> None:
    """Make the tables."""
    for statement in _TABLES:
        op.execute(statement)
