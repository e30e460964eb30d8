"""The tables of a store in SQLite, and how an older file gets them."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final

from agentsight_tokens.calls import CALL_COLUMNS, SUMMARY_COLUMNS, calls_table
from agentsight_tokens.errors import StorageError

from .base import DEFAULT_PROJECT_ID
from .budget_tables import BUDGET_TABLES
from .call_row import ROW_COLUMNS
from .cycle_row import CYCLE_COLUMNS
from .repricing import COST_COLUMNS
from .rollup import (
    CONVERSATION_FACTS,
    CONVERSATION_KEY,
    DAY,
    DIMENSION_KEY,
    HOURLY_KEY,
    MODEL_KEY,
    SUM_COLUMNS,
)
from .sqlite_transaction import SQLiteTransaction
from .tally import Tally

__all__ = ["CALL_KEY", "prepare"]

CALL_KEY: Final = ("project_id", "id")
"""A project takes each record id once; what another one has taken is no concern of it."""

_VERSION: Final = 7
_calls: Final = calls_table(
    "number INTEGER PRIMARY KEY",
    "project_id INTEGER NOT NULL",
    "cycle_key TEXT NOT NULL",
    "environment TEXT",
    unique=CALL_KEY,
)

_SUMS: Final = ", ".join(f"{name} INTEGER NOT NULL DEFAULT 0" for name in SUM_COLUMNS)

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
  provider TEXT NOT NULL, environment TEXT NOT NULL, {_SUMS},
  PRIMARY KEY ({", ".join(HOURLY_KEY)})) STRICT, WITHOUT ROWID""",
    f"""CREATE TABLE IF NOT EXISTS model_usage (
  project_id INTEGER NOT NULL, period TEXT NOT NULL, start INTEGER NOT NULL,
  model TEXT NOT NULL, provider TEXT NOT NULL, environment TEXT NOT NULL, {_SUMS},
  PRIMARY KEY ({", ".join(MODEL_KEY)})) STRICT, WITHOUT ROWID""",
    f"""CREATE TABLE IF NOT EXISTS dimension_usage (
  project_id INTEGER NOT NULL, dimension TEXT NOT NULL, period TEXT NOT NULL,
  start INTEGER NOT NULL, value TEXT NOT NULL, {_SUMS},
  PRIMARY KEY ({", ".join(DIMENSION_KEY)})) STRICT, WITHOUT ROWID""",
    f"""CREATE TABLE IF NOT EXISTS conversations (
  project_id INTEGER NOT NULL, conversation_id TEXT NOT NULL, first_at INTEGER NOT NULL,
  last_at INTEGER NOT NULL, {", ".join(f"{name} TEXT" for name in CONVERSATION_FACTS)}, {_SUMS},
  PRIMARY KEY ({", ".join(CONVERSATION_KEY)})) STRICT""",
    """CREATE TABLE IF NOT EXISTS packed_calls (
  project_id INTEGER NOT NULL, period TEXT NOT NULL, start INTEGER NOT NULL, name TEXT NOT NULL,
  data BLOB NOT NULL, PRIMARY KEY (project_id, period, start, name)) STRICT""",
    *BUDGET_TABLES,
    """CREATE TABLE IF NOT EXISTS span_traces (
  project_id INTEGER NOT NULL, trace_id TEXT NOT NULL, touched_at INTEGER NOT NULL,
  members TEXT NOT NULL, PRIMARY KEY (project_id, trace_id)) STRICT""",
    """CREATE TABLE IF NOT EXISTS span_responses (
  project_id INTEGER NOT NULL, response TEXT NOT NULL, library TEXT NOT NULL,
  is_used INTEGER NOT NULL, began_at INTEGER NOT NULL, ended_at INTEGER NOT NULL,
  touched_at INTEGER NOT NULL, PRIMARY KEY (project_id, response)) STRICT""",
    """CREATE TABLE IF NOT EXISTS held_totals (
  project_id INTEGER NOT NULL, trace_id TEXT NOT NULL, span_id TEXT NOT NULL,
  due_at INTEGER NOT NULL, cycle TEXT NOT NULL, is_counted INTEGER NOT NULL,
  PRIMARY KEY (project_id, trace_id, span_id)) STRICT""",
)
_DEFAULT_ROW: Final = str(DEFAULT_PROJECT_ID)
_CHANGED_SINCE: Final[tuple[dict[str, tuple[str, str]], ...]] = (
    {
        "cycles": (_DEFAULT_ROW, ", ".join(CYCLE_COLUMNS)),
        "repricings": (_DEFAULT_ROW, ", ".join(("call_id", "repriced_at", *COST_COLUMNS))),
        "calls": (_DEFAULT_ROW, ", ".join(("number", "cycle_key", "environment", *CALL_COLUMNS))),
    },
    {"hourly_usage": ("project_id", ", ".join((*HOURLY_KEY[1:], *SUMMARY_COLUMNS)))},
    {},
    {},
    {},
    {},
    {},
)
"""By version: the tables that are another way now, their project and their other columns."""

_ADDED_UP_SINCE: Final = 2
"""The version whose tables of sums are those of this one."""

_MODELS_ADDED_UP_SINCE: Final = 6
"""The version that sums by model over days and months."""

_STARTS: Final = {
    "day": f"hour - ((hour % {DAY}) + {DAY}) % {DAY}",
    "month": "CAST(strftime('%s', hour / 1000000, 'unixepoch', 'start of month') AS INTEGER) "
    "* 1000000",
}

_CALLS_A_TALLY: Final = 10_000
_INDEXES: Final = (
    "CREATE INDEX IF NOT EXISTS repricings_of_call ON repricings (project_id, call_id)",
    "CREATE INDEX IF NOT EXISTS calls_of_project ON calls (project_id, at)",
    "CREATE INDEX IF NOT EXISTS conversations_of_time ON conversations "
    "(project_id, last_at, cost_micro_usd, total_tokens, calls)",
    "CREATE INDEX IF NOT EXISTS conversations_of_cost ON conversations "
    "(project_id, cost_micro_usd, last_at, conversation_id)",
    "CREATE INDEX IF NOT EXISTS conversations_of_size ON conversations "
    "(project_id, total_tokens, last_at, conversation_id)",
    "CREATE INDEX IF NOT EXISTS calls_of_conversation ON calls (project_id, conversation_id, at)",
    "CREATE INDEX IF NOT EXISTS span_traces_of_time ON span_traces (touched_at)",
    "CREATE INDEX IF NOT EXISTS span_responses_of_time ON span_responses (touched_at)",
    "CREATE INDEX IF NOT EXISTS held_totals_of_time ON held_totals (due_at)",
)
_NOW: Final = "CAST((julianday('now') - julianday('1970-01-01')) * 86400000000 AS INTEGER)"
_DEFAULTS: Final = (
    f"INSERT INTO organisations VALUES ({DEFAULT_PROJECT_ID}, 'default', {_NOW}) "  # noqa: S608  # our own
    "ON CONFLICT DO NOTHING",
    f"INSERT INTO projects VALUES ({DEFAULT_PROJECT_ID}, {DEFAULT_PROJECT_ID}, 'default', {_NOW}) "  # noqa: S608  # our own
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
            _bring_up(connection, version)
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def _bring_up(connection: sqlite3.Connection, version: int) -> None:
    old = [name for name in _CHANGED_SINCE[version] if _has(connection, name)]
    for table in old:
        connection.execute(f"ALTER TABLE {table} RENAME TO old_{table}")
    for statement in _TABLES:
        connection.execute(statement)
    for table in old:
        project, names = _CHANGED_SINCE[version][table]
        connection.execute(
            f"INSERT INTO {table} (project_id, {names}) SELECT {project}, {names} FROM old_{table}"  # noqa: S608  # our own names
        )
        connection.execute(f"DROP TABLE old_{table}")
    for statement in (*_INDEXES, *_DEFAULTS, f"PRAGMA user_version = {_VERSION}"):
        connection.execute(statement)
    if version < _ADDED_UP_SINCE:
        _add_up(connection, SUMMARY_COLUMNS if version else ())
    if version < _MODELS_ADDED_UP_SINCE:
        _add_up_models(connection)


def _add_up_models(connection: sqlite3.Connection) -> None:
    """Fill the sums by model over days and months from those by hour, which outlive the calls."""
    connection.execute("DELETE FROM model_usage")
    names = ", ".join(HOURLY_KEY[2:])
    sums = ", ".join(f"SUM({name})" for name in SUM_COLUMNS)
    for period, start in _STARTS.items():
        connection.execute(
            f"INSERT INTO model_usage (project_id, period, start, {names}, {', '.join(SUM_COLUMNS)}) "  # noqa: S608  # our own names
            f"SELECT project_id, '{period}', {start}, {names}, {sums} FROM hourly_usage "
            f"GROUP BY project_id, {start}, {names}"
        )


def _add_up(connection: sqlite3.Connection, known: Sequence[str]) -> None:
    """
    Fill the tables of sums.

    Args:
        connection: A transaction.
        known: The sums by hour that are there, also those of calls that have expired.
    """
    transaction = SQLiteTransaction(connection)
    rows = connection.execute(
        f"SELECT {', '.join(ROW_COLUMNS)} FROM calls ORDER BY number"  # noqa: S608  # our own names
    )
    while chunk := rows.fetchmany(_CALLS_A_TALLY):
        tally = Tally()
        tally.add(chunk)
        for additions in tally.additions():
            if additions.table == "hourly_usage":
                additions = additions.without(known)
            if additions.columns != HOURLY_KEY:
                transaction.add_to(*additions)


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _has(connection: sqlite3.Connection, table: str) -> bool:
    found = connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (table,)).fetchone()
    return found is not None
