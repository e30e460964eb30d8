"""SpanWriter: puts what a call used on the OpenTelemetry span in which it was made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

from agentsight_tokens.attributes import CallDetails, SemanticConvention, span_attributes
from agentsight_tokens.context import CompressionResult
from agentsight_tokens.summary import UsageSummary
from agentsight_tokens.usage import TokenUsage, UsageRecord

__all__ = ["SpanWriter"]


class SpanWriter:
    """
    Writes attributes to spans of the program's own; it starts none.

    Args:
        semconv: Whose names the attributes have.
        hash_user_id: Replaces the user's id.

    Raises:
        ImportError: If opentelemetry is not installed.
        ValueError: For an unknown convention.
    """

    def __init__(
        self, semconv: SemanticConvention, *, hash_user_id: Callable[[str], str] | None = None
    ) -> None:
        try:
            self._trace = import_module("opentelemetry.trace")
        except ImportError as error:
            raise ImportError("spans need opentelemetry: pip install opentelemetry-api") from error
        span_attributes(TokenUsage(), semconv=semconv)  # an unknown one is told here
        self._semconv = semconv
        self._hash_user_id = hash_user_id

    def current_span(self) -> Any:
        """Return the span in force."""
        return self._trace.get_current_span()

    def write(
        self,
        span: Any,
        records: Sequence[UsageRecord],
        *,
        compression: CompressionResult | None,
        details: CallDetails,
    ) -> None:
        """
        Put what calls used on a span that has not ended.

        Args:
            span: The span in which they were made.
            records: One call, or those of an agent's run, which are added up.
            compression: What made the prompt shorter; None if nothing did.
            details: What is known of one call besides.
        """
        if not records or not span.is_recording():
            return
        is_call = len(records) == 1
        span.set_attributes(
            span_attributes(
                records[0] if is_call else UsageSummary.of_calls(records),
                "call" if is_call else "agent",
                semconv=self._semconv,
                hash_user_id=self._hash_user_id,
                context=compression,
                details=details,
            )
        )
