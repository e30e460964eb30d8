"""Summaries: what a program's function or model makes of old messages."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from agentsight_tokens.scope import tool_scope

from .messages import ReadMessage, texts_of

__all__ = ["COMPRESSION_TOOL", "asummary_of", "summary_of"]

COMPRESSION_TOOL: Final = "context_compression"
"""The tool to which the calls that make a summary are attributed."""

_UNSTREAMED: Final = "nostream"
"""LangGraph's tag for what is no part of an agent's answer (`langgraph.constants.TAG_NOSTREAM`)."""

_PROMPT: Final = (
    "Summarise the following part of a conversation for the assistant that continues it. Keep "
    "facts, decisions, open questions and the results of tools; leave out greetings. Answer "
    "with the summary only.\n\n"
)


def summary_of(summarize: Any, messages: Sequence[Any]) -> str:
    """
    Return a summary of messages.

    Args:
        summarize: A model with `invoke` (LangChain) or `complete` (LlamaIndex), which gets a
            transcript, or a function, which gets the list of messages.
        messages: What is to be summarised.

    Raises:
        TypeError: If it is none of these, or answers only asynchronously.
    """
    with tool_scope(COMPRESSION_TOOL):
        ask, question = _asked(summarize, messages, ("invoke", "complete"))
        answer = ask(question)
    if inspect.isawaitable(answer):
        if inspect.iscoroutine(answer):
            answer.close()
        raise TypeError(f"{summarize!r} answers asynchronously: use acompress")
    return _text(answer)


async def asummary_of(summarize: Any, messages: Sequence[Any]) -> str:
    """Do what `summary_of` does, and await a summary that comes asynchronously."""
    with tool_scope(COMPRESSION_TOOL):
        ask, question = _asked(summarize, messages, ("ainvoke", "acomplete", "invoke", "complete"))
        answer = ask(question)
        if inspect.isawaitable(answer):
            answer = await answer
    return _text(answer)


def _asked(summarize: Any, messages: Sequence[Any], names: Sequence[str]) -> tuple[Any, Any]:
    for name in names:
        method = getattr(summarize, name, None)
        if callable(method):
            if _is_langchains(summarize):
                method = partial(method, config={"tags": [_UNSTREAMED]})
            return method, _PROMPT + _transcript(messages)
    if not callable(summarize):
        raise TypeError(f"summarize is a function or a model, not {summarize!r:.80}")
    return summarize, list(messages)


def _is_langchains(model: Any) -> bool:
    runnables = sys.modules.get("langchain_core.runnables")
    return runnables is not None and isinstance(model, runnables.Runnable)


def _transcript(messages: Sequence[Any]) -> str:
    lines = []
    for message in messages:
        read = ReadMessage(message)
        lines.append(f"{read.role}: {' '.join(texts_of(read.canonical()))}")
    return "\n".join(lines)


def _text(answer: Any) -> str:
    if isinstance(answer, str):
        return answer
    text = getattr(answer, "text", None)
    if isinstance(text, str):
        return text
    return " ".join(texts_of(getattr(answer, "content", answer)))
