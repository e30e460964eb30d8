"""What a call that failed is known to have cost."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from agentsight_tokens.extract import Extracted
from agentsight_tokens.usage import TokenUsage
from agentsight_tokens_wire.errors import is_unbilled

from .runs import Run
from .usage import extracted, first_generations, read_answer

__all__ = ["failure"]

_CONVERSION: Final = "_convert_responses_chunk_to_generation_chunk"
_CANCELS: Final = (asyncio.CancelledError, GeneratorExit, KeyboardInterrupt)


def failure(run: Run, error: BaseException, response: Any) -> dict[str, Any]:
    """
    Return how a failed call finishes, as the arguments of `OpenCall.finish`.

    A stream may have told some usage before it broke, and an answer that could not be
    parsed was billed all the same; LangChain attaches both to the error.
    """
    provider = run.call.provider
    known: dict[str, Any] = {"usage": None, "status": "error", "error_type": type(error).__name__}
    if response is not None:
        choices = first_generations(response)
        answer = read_answer(run, getattr(choices[0], "message", None) if choices else None, None)
        known["model"] = answer.model
        if answer.usage is not None:
            return {
                **known,
                "usage": answer.usage,
                "status": "partial",
                "response_id": answer.response_id,
                "service_tier": answer.service_tier,
            }
    body, status = _http_answer(response, provider)
    body = body or _failed_response(error, provider)
    if (status is not None and status >= 400) or is_unbilled(error):
        return {**known, "usage": TokenUsage()}
    if body is not None and body.usage:
        return {
            **known,
            "usage": body.usage,
            "model": body.model,
            "response_id": body.response_id,
            "service_tier": body.service_tier,
        }
    if isinstance(error, _CANCELS):
        return {**known, "status": "cancelled", "unreported_reason": "cancelled"}
    return {**known, "unreported_reason": "error_without_usage"}


def _http_answer(response: Any, provider: str | None) -> tuple[Extracted | None, int | None]:
    """Return what the HTTP response says that the error carried, and its status."""
    for generations in response.generations if response is not None else ():
        for generation in generations:
            metadata = getattr(getattr(generation, "message", None), "response_metadata", None)
            if metadata and "status_code" in metadata:
                return extracted(metadata.get("body"), provider), metadata["status_code"]
    return None, None


def _failed_response(error: BaseException, provider: str | None) -> Extracted | None:
    """
    Return what the event `response.failed` of a Responses stream says.

    langchain-openai (1.7) keeps no more of it than the message, but it is in the frame that
    raised the error.
    """
    trace = error.__traceback__
    while trace is not None:
        frame, trace = trace.tb_frame, trace.tb_next
        if frame.f_code.co_name == _CONVERSION:
            failed = getattr(frame.f_locals.get("chunk"), "response", None)
            return extracted(failed.model_dump(), provider) if failed is not None else None
    return None
