"""Sums by model over days and months, and conversations by their cost and size."""

from __future__ import annotations

from typing import Final

from alembic import op

revision: Final = "0006"
down_revision: Final = "0005"

# The columns stand here as they were, whatever the program's own lists say later.
_NAMES: Final = ("model", "provider", "environment")
_SUMS: Final = (
    *("calls", "unreported_calls", "unpriced_calls", "unpriced_tokens", "estimated_calls"),
    *("cost_micro_usd", "prompt_cost_micro_usd", "completion_cost_micro_usd"),
    *("cost_rest_pico_usd", "prompt_cost_rest_pico_usd", "completion_cost_rest_pico_usd"),
    *("input_tokens", "output_tokens", "total_tokens", "embedding_tokens"),
    *("cache_read_tokens", "cache_creation_tokens", "cache_creation_1h_tokens"),
    *("reasoning_tokens", "audio_input_tokens", "audio_output_tokens", "cache_read_audio_tokens"),
    *("image_input_tokens", "image_output_tokens", "web_search_requests"),
    *("timed_calls", "timed_output_tokens", "duration_microseconds"),
    *("first_token_calls", "first_token_microseconds"),
)
_COLUMNS: Final = ",\n".join(f"{name} bigint NOT NULL DEFAULT 0" for name in _SUMS)
_STARTS: Final = {
    "day": "hour - ((hour % 86400000000) + 86400000000) % 86400000000",
    "month": (
        "(EXTRACT(epoch FROM date_trunc('month', timezone('UTC', "
        "to_timestamp(hour / 1000000)))) * 1000000)::bigint"
    ),
}


def upgrade() -> None:
    """Make the table, add up the hours, and make the indexes."""
    names = ", ".join(_NAMES)
    texts = ", ".join(f'{name} text COLLATE "C" NOT NULL' for name in _NAMES)
    op.execute(
        f"""CREATE TABLE model_usage (
          project_id bigint NOT NULL,
          period text COLLATE "C" NOT NULL,
          start bigint NOT NULL,
          {texts},
          {_COLUMNS},
          PRIMARY KEY (project_id, period, start, {names})) WITH (fillfactor = 70)"""
    )
    for period, start in _STARTS.items():
        op.execute(
            f"""INSERT INTO model_usage (project_id, period, start, {names}, {", ".join(_SUMS)})
              SELECT project_id, '{period}', {start}, {names},
                {", ".join(f"SUM({name})" for name in _SUMS)}
              FROM hourly_usage GROUP BY project_id, {start}, {names}"""  # noqa: S608  # our own names
        )
    for name, column in {"cost": "cost_micro_usd", "size": "total_tokens"}.items():
        op.execute(
            f"CREATE INDEX conversations_of_{name} ON conversations "
            f"(project_id, {column}, last_at, conversation_id)"
        )
