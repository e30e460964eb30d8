"""Sums by dimension and by conversation, and of times."""

from __future__ import annotations

from typing import Final

from alembic import op

revision: Final = "0002"
down_revision: Final = "0001"

# The columns stand here as they were, whatever the program's own lists say later.
_IS_UNPRICED: Final = "cost_pico_usd IS NULL AND unreported_reason IS NULL"
_IS_TIMED: Final = "duration_seconds BETWEEN 0 AND 1000000"
_IS_STREAMED: Final = "time_to_first_token_seconds BETWEEN 0 AND 1000000"
_TIMES: Final = {
    "timed_calls": f"COUNT(*) FILTER (WHERE {_IS_TIMED})",
    "timed_output_tokens": f"COALESCE(SUM(output_tokens) FILTER (WHERE {_IS_TIMED}), 0)",
    "duration_microseconds": (
        f"COALESCE(SUM(trunc(duration_seconds * 1000000)::bigint) FILTER (WHERE {_IS_TIMED}), 0)"
    ),
    "first_token_calls": f"COUNT(*) FILTER (WHERE {_IS_STREAMED})",
    "first_token_microseconds": (
        "COALESCE(SUM(trunc(time_to_first_token_seconds * 1000000)::bigint) "
        f"FILTER (WHERE {_IS_STREAMED}), 0)"
    ),
}
_MONEY: Final = ("cost", "prompt_cost", "completion_cost")
_COUNTERS: Final = (
    "input_tokens",
    "output_tokens",
    "total_tokens",
    "embedding_tokens",
    "cache_read_tokens",
    "cache_creation_tokens",
    "cache_creation_1h_tokens",
    "reasoning_tokens",
    "audio_input_tokens",
    "audio_output_tokens",
    "cache_read_audio_tokens",
    "image_input_tokens",
    "image_output_tokens",
    "web_search_requests",
)
_SUMS: Final = {
    "calls": "COUNT(*)",
    "unreported_calls": "COUNT(unreported_reason)",
    "unpriced_calls": (
        f"COUNT(*) FILTER (WHERE {_IS_UNPRICED} AND total_tokens + embedding_tokens > 0)"
    ),
    "unpriced_tokens": (
        f"COALESCE(SUM(total_tokens + embedding_tokens) FILTER (WHERE {_IS_UNPRICED}), 0)"
    ),
    "estimated_calls": "COUNT(*) FILTER (WHERE source = 'estimated')",
    **{f"{name}_micro_usd": f"COALESCE(SUM({name}_pico_usd / 1000000), 0)" for name in _MONEY},
    **{f"{name}_rest_pico_usd": f"COALESCE(SUM({name}_pico_usd % 1000000), 0)" for name in _MONEY},
    **{name: f"COALESCE(SUM({name}), 0)" for name in _COUNTERS},
    **_TIMES,
}
_COLUMNS: Final = ",\n".join(f"{name} bigint NOT NULL DEFAULT 0" for name in _SUMS)
_FACTS: Final = ("session_id", "user_id", "org_id", "agent", "feature", "environment")
_DIMENSIONS: Final = (
    "model",
    "provider",
    "environment",
    "user_id",
    "org_id",
    "agent",
    "feature",
    "operation",
    "status",
    "source",
    "handler",
    "tool_name",
    "service_tier",
)
_PERIODS: Final = {
    "hour": "at - ((at % 3600000000) + 3600000000) % 3600000000",
    "day": "at - ((at % 86400000000) + 86400000000) % 86400000000",
    "month": (
        "(EXTRACT(epoch FROM date_trunc('month', timezone('UTC', "
        "to_timestamp(floor(at / 1000000.0))))) * 1000000)::bigint"
    ),
}
_TABLES: Final = (
    f"""CREATE TABLE dimension_usage (
      project_id bigint NOT NULL,
      dimension text COLLATE "C" NOT NULL,
      period text COLLATE "C" NOT NULL,
      start bigint NOT NULL,
      value text COLLATE "C" NOT NULL,
      {_COLUMNS},
      PRIMARY KEY (project_id, dimension, period, start, value)) WITH (fillfactor = 70)""",
    f"""CREATE TABLE conversations (
      project_id bigint NOT NULL,
      conversation_id text COLLATE "C" NOT NULL,
      first_at bigint NOT NULL,
      last_at bigint NOT NULL,
      {", ".join(f'{name} text COLLATE "C"' for name in _FACTS)},
      {_COLUMNS},
      PRIMARY KEY (project_id, conversation_id))""",
    """CREATE INDEX conversations_of_time ON conversations
      (project_id, last_at, cost_micro_usd, total_tokens, calls)""",
)


def upgrade() -> None:
    """Make the tables, and add up what is there; sums by hour outlive their calls and stay."""
    for statement in _TABLES:
        op.execute(statement)
    for name in _SUMS:
        change = (
            "ADD COLUMN {} bigint NOT NULL DEFAULT 0"
            if name in _TIMES
            else ("ALTER COLUMN {} SET DEFAULT 0")
        )
        op.execute(f"ALTER TABLE hourly_usage {change.format(name)}")
    op.execute("ALTER TABLE hourly_usage SET (fillfactor = 70)")
    for statement in (_timed_hours(), *_dimensions(), _conversations()):
        op.execute(statement)


def _timed_hours() -> str:
    return f"""UPDATE hourly_usage SET {", ".join(f"{name} = found.{name}" for name in _TIMES)}
      FROM (SELECT project_id, at - ((at % 3600000000) + 3600000000) % 3600000000 AS hour,
          COALESCE(model, '') AS model, COALESCE(provider, '') AS provider,
          COALESCE(environment, '') AS environment,
          {", ".join(f"{expression} AS {name}" for name, expression in _TIMES.items())}
        FROM calls GROUP BY 1, 2, 3, 4, 5) AS found
      WHERE hourly_usage.project_id = found.project_id AND hourly_usage.hour = found.hour
        AND hourly_usage.model = found.model AND hourly_usage.provider = found.provider
        AND hourly_usage.environment = found.environment"""  # noqa: S608  # our own names


def _dimensions() -> list[str]:
    return [
        f"""INSERT INTO dimension_usage
            (project_id, dimension, period, start, value, {", ".join(_SUMS)})
          SELECT project_id, '{name}', '{period}', {start}, COALESCE({name}, ''),
            {", ".join(_SUMS.values())}
          FROM calls GROUP BY 1, 4, 5"""  # noqa: S608  # our own names
        for name in _DIMENSIONS
        for period, start in _PERIODS.items()
        if period != "hour" or name == "status"
    ]


def _conversations() -> str:
    facts = ", ".join(
        f"(array_agg({name} ORDER BY at DESC, id DESC) FILTER (WHERE {name} IS NOT NULL))[1]"
        for name in _FACTS
    )
    return f"""INSERT INTO conversations
        (project_id, conversation_id, first_at, last_at, {", ".join((*_FACTS, *_SUMS))})
      SELECT project_id, conversation_id, MIN(at), MAX(at), {facts},
        {", ".join(_SUMS.values())}
      FROM calls WHERE conversation_id <> '' GROUP BY 1, 2"""  # noqa: S608  # our own names
