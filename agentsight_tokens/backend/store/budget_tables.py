"""The tables of the server's budgets in SQLite."""

from __future__ import annotations

from typing import Final

from .budget_usage import USAGE_COLUMNS

__all__ = ["BUDGET_TABLES"]

BUDGET_TABLES: Final = (
    """CREATE TABLE IF NOT EXISTS budget_versions (
  project_id INTEGER PRIMARY KEY, version INTEGER NOT NULL) STRICT""",
    """CREATE TABLE IF NOT EXISTS budgets (
  project_id INTEGER NOT NULL, id TEXT NOT NULL, name TEXT NOT NULL, scope TEXT NOT NULL,
  value TEXT NOT NULL, period TEXT NOT NULL, timezone TEXT NOT NULL, token_limit INTEGER,
  cost_limit_pico_usd INTEGER, levels TEXT NOT NULL, webhook_urls TEXT NOT NULL,
  webhook_secret TEXT, enabled INTEGER NOT NULL, counts_since INTEGER,
  created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL, PRIMARY KEY (project_id, id)) STRICT""",
    f"""CREATE TABLE IF NOT EXISTS budget_usage (
  project_id INTEGER NOT NULL, budget_id TEXT NOT NULL, key TEXT NOT NULL,
  window_start INTEGER NOT NULL, {", ".join(f"{name} INTEGER NOT NULL" for name in USAGE_COLUMNS)},
  PRIMARY KEY (project_id, budget_id, key, window_start)) STRICT, WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS alerts (
  project_id INTEGER NOT NULL, budget_id TEXT NOT NULL, key TEXT NOT NULL,
  window_start INTEGER NOT NULL, unit TEXT NOT NULL, level_millionths INTEGER NOT NULL,
  id TEXT NOT NULL, budget_name TEXT NOT NULL, scope TEXT NOT NULL, period TEXT NOT NULL,
  resets_at INTEGER, used TEXT NOT NULL, limit_amount TEXT NOT NULL, at INTEGER NOT NULL,
  PRIMARY KEY (project_id, budget_id, key, window_start, unit, level_millionths)) STRICT""",
    """CREATE TABLE IF NOT EXISTS webhook_deliveries (
  project_id INTEGER NOT NULL, alert_id TEXT NOT NULL, number INTEGER NOT NULL,
  url TEXT NOT NULL, state TEXT NOT NULL, attempts INTEGER NOT NULL, due_at INTEGER NOT NULL,
  ended_at INTEGER, error TEXT, PRIMARY KEY (project_id, alert_id, number)) STRICT""",
    "CREATE INDEX IF NOT EXISTS budget_usage_of_window "
    "ON budget_usage (project_id, budget_id, window_start)",
    "CREATE INDEX IF NOT EXISTS alerts_of_project ON alerts (project_id, at, id)",
    "CREATE INDEX IF NOT EXISTS alerts_of_id ON alerts (project_id, id)",
    "CREATE INDEX IF NOT EXISTS webhook_deliveries_due ON webhook_deliveries (due_at) "
    "WHERE state = 'waiting'",
)
