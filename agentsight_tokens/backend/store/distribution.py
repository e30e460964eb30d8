"""
Distribution: the tables of a database shared out to the workers of a Citus coordinator.

By project: what one project has lies on one worker, so that its queries and its unique ids are
that worker's business alone.
"""

from __future__ import annotations

from typing import Final

from agentsight_tokens.errors import StorageError

from .base import Transaction

__all__ = ["DISTRIBUTED", "REFERENCE", "distribute"]

REFERENCE: Final = ("organisations", "projects", "api_keys")
"""Small tables, of which every worker has a copy."""

DISTRIBUTED: Final = (
    "calls",
    "record_ids",
    "cycles",
    "conversations",
    "hourly_usage",
    "model_usage",
    "dimension_usage",
    "packed_calls",
    "repricings",
    "budgets",
    "budget_versions",
    "budget_usage",
    "alerts",
    "webhook_deliveries",
    "span_traces",
    "span_responses",
    "held_totals",
)
"""The rows of a project lie together."""


def distribute(transaction: Transaction) -> list[str]:
    """
    Share the tables out; those that are shared out already stay as they are.

    Returns:
        The tables that were not.

    Raises:
        StorageError: If the database has not the extension `citus`.
    """
    if not transaction.rows("SELECT 1 FROM pg_extension WHERE extname = 'citus'"):
        raise StorageError(
            "the database has not the extension citus: install it on every node, run "
            "CREATE EXTENSION citus, and add the workers with citus_add_node"
        )
    known = {
        name for (name,) in transaction.rows("SELECT logicalrelid::text FROM pg_dist_partition")
    }
    for table in REFERENCE:
        if table not in known:
            transaction.rows(f"SELECT create_reference_table('{table}')")  # our own names
    first = DISTRIBUTED[0]
    for table in DISTRIBUTED:
        if table not in known:
            beside = "" if table == first else f", colocate_with => '{first}'"
            transaction.rows(
                f"SELECT create_distributed_table('{table}', 'project_id'{beside})"  # our own names
            )
    return [table for table in (*REFERENCE, *DISTRIBUTED) if table not in known]
