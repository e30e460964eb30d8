"""The tables of a store in SQLite, and how an older file gets them."""

from __future__ import annotations

import sqlite3
from typing import Final

from agentsight_tokens.calls import CALL_COLUMNS, SUMMARY_COLUMNS, calls_table
from agentsight_tokens.errors import StorageError

from .base import DEFAULT_PROJECT_ID
from .cycle_row import CYCLE_COLUMNS
from .repricing import COST_COLUMNS
from .rollup import ROLLUP_KEY, add_to_rollup

__all__ = ["CALL_KEY", "prepare"]

CALL_KEY: Final = ("project_id", "id")
"""A project takes each record id once; what another one has taken is no concern of it."""

_VERSION: Final = 1
_calls: Final = calls_table(
    "number INTEGER PRIMARY KEY",
    "project_id INTEGER NOT NULL",
    "cycle_key TEXT NOT NULL",
    "environment TEXT",
    unique=CALL_KEY,
)

_TABLES: Final = (
    """CREATE TABLE IF NOT EXISTS organisations (
  id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, created_at INTEGER NOT NULL) STRICT""",
    """CREATE TABLE IF NOT EXISTS projects (
  id INTEGER PRIMARY KEY, organisation_id INTEGER NOT NULL, name TEXT NOT NULL,
  created_at INTEGER NOT NULL, UNIQUE (organisation_id, name)) STRICT""",
    """CREATE TABLE IF NOT EXISTS api_keys (
  id TEXT PRIMARY KEY, project_id INTEGER NOT NULL, name TEXT NOT NULL, digest TEXT NOT NULL,
  scopes TEXT NOT NULL, created_at INTEGER NOT NULL, expires_at INTEGER, last_used_at INTEGER,
  revoked_at INTEGER) STRICT""",
    """CREATE TABLE IF NOT EXISTS cycles (
  project_id INTEGER NOT NULL, key TEXT NOT NULL, conversation_id TEXT NOT NULL,
  sealed_by TEXT NOT NULL, opened_at INTEGER NOT NULL, sealed_at INTEGER NOT NULL,
  environment TEXT, calls INTEGER NOT NULL, PRIMARY KEY (project_id, key)) STRICT""",
    _calls,
    """CREATE TABLE IF NOT EXISTS expired_records (
  project_id INTEGER NOT NULL, id TEXT NOT NULL, PRIMARY KEY (project_id, id))
  STRICT, WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS repricings (
  project_id INTEGER NOT NULL, call_id TEXT NOT NULL, repriced_at INTEGER NOT NULL,
  cost_pico_usd INTEGER, prompt_cost_pico_usd INTEGER, completion_cost_pico_usd INTEGER,
  cost_status TEXT, price_key TEXT, price_version TEXT) STRICT""",
    f"""CREATE TABLE IF NOT EXISTS hourly_usage (
  project_id INTEGER NOT NULL, hour INTEGER NOT NULL, model TEXT NOT NULL,
  provider TEXT NOT NULL, environment TEXT NOT NULL,
  {", ".join(f"{name} INTEGER NOT NULL" for name in SUMMARY_COLUMNS)},
  PRIMARY KEY ({", ".join(ROLLUP_KEY)})) STRICT, WITHOUT ROWID""",
)
_INDEXES: Final = (
    "CREATE INDEX IF NOT EXISTS repricings_of_call ON repricings (project_id, call_id)",
    "CREATE INDEX IF NOT EXISTS calls_of_project ON calls (project_id, at)",
    "CREATE INDEX IF NOT EXISTS calls_of_conversation ON calls (project_id, conversation_id, at)",
)
_DEFAULTS: Final = (
    f"INSERT INTO organisations VALUES ({DEFAULT_PROJECT_ID}, 'default', 0) "  # noqa: S608  # our own
    "ON CONFLICT DO NOTHING",
    f"INSERT INTO projects VALUES ({DEFAULT_PROJECT_ID}, {DEFAULT_PROJECT_ID}, 'default', 0) "  # noqa: S608  # our own
    "ON CONFLICT DO NOTHING",
)


def prepare(connection: sqlite3.Connection) -> None:
    """
    Give a file the tables of this version, and move what an older one has into them.

    Raises:
        StorageError: If the file is of a newer version.
    """
    if _version(connection) == _VERSION:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = _version(connection)  # another process may have been quicker
        if version > _VERSION:
            raise StorageError(
                f"the store is of version {version} and this program knows {_VERSION}: "
                "install the newer agentsight-tokens"
            )
        if version < _VERSION:
            _bring_up(connection)
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def _bring_up(connection: sqlite3.Connection) -> None:
    is_old = _has(connection, "calls")
    if is_old:
        for table in ("calls", "cycles", "repricings"):
            connection.execute(f"ALTER TABLE {table} RENAME TO old_{table}")
    for statement in _TABLES:
        connection.execute(statement)
    if is_old:
        _move(connection)
    for statement in (*_INDEXES, *_DEFAULTS, f"PRAGMA user_version = {_VERSION}"):
        connection.execute(statement)


def _move(connection: sqlite3.Connection) -> None:
    """Take over the tables of the version that knew no projects."""
    columns = {
        "cycles": ", ".join(CYCLE_COLUMNS),
        "repricings": ", ".join(("call_id", "repriced_at", *COST_COLUMNS)),
        "calls": ", ".join(("number", "cycle_key", "environment", *CALL_COLUMNS)),
    }
    for table, names in columns.items():
        connection.execute(
            f"INSERT INTO {table} (project_id, {names}) "  # noqa: S608  # our own names
            f"SELECT {DEFAULT_PROJECT_ID}, {names} FROM old_{table}"
        )
        connection.execute(f"DROP TABLE old_{table}")
    connection.execute(add_to_rollup("calls", "1 = 1"))


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _has(connection: sqlite3.Connection, table: str) -> bool:
    found = connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (table,)).fetchone()
    return found is not None
