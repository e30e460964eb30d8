"""Holds what was stored against what the provider billed."""

from __future__ import annotations

from typing import NamedTuple

from agentsight_tokens.backend.analytics import UsageReport
from agentsight_tokens.testing import LoopbackProvider
from agentsight_tokens.usage import USAGE_FIELDS, TokenUsage

__all__ = ["Comparison", "compared"]


class Comparison(NamedTuple):
    """Two ledgers of the same calls."""

    billed_tokens: int
    billed_calls: int
    stored_tokens: int
    stored_calls: int
    differences: tuple[str, ...]
    """Which count of which conversation differs, in words."""


def compared(provider: LoopbackProvider, report: UsageReport) -> Comparison:
    """
    Compare each counter of each conversation.

    Args:
        provider: The provider, whose calls carry the conversation as their label.
        report: What is stored, by conversation.
    """
    stored = {key[0] or "": usage for key, usage in report.groups}
    differences = []
    for conversation in sorted({call.label or "" for call in provider.ledger} | stored.keys()):
        billed = provider.billed(conversation)
        ours = stored.get(conversation, TokenUsage())
        differences += [
            f"{conversation}: {name} billed {theirs:,}, stored {found:,}"
            for name in USAGE_FIELDS
            if (theirs := getattr(billed, name)) != (found := getattr(ours, name))
        ]
    if len(provider.ledger) != report.total.request_count:
        differences.append(
            f"calls billed {len(provider.ledger):,}, stored {report.total.request_count:,}"
        )
    return Comparison(
        _tokens(provider.billed()),
        len(provider.ledger),
        _tokens(report.total),
        report.total.request_count,
        tuple(differences),
    )


def _tokens(usage: TokenUsage) -> int:
    return usage.total_tokens + usage.embedding_tokens
