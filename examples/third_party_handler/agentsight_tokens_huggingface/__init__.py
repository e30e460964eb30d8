"""Counts the chat completions of huggingface_hub's `InferenceClient`."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any, ClassVar

from agentsight_tokens.config import TokenConfig
from agentsight_tokens.extract import openai_chat
from agentsight_tokens.faults import contained
from agentsight_tokens.meter import Asked, Meter, OpenCall

__all__ = ["HuggingFaceHandler"]


class HuggingFaceHandler:
    """Wraps `InferenceClient.chat_completion`."""

    name: ClassVar[str] = "huggingface"
    framework: ClassVar[str] = "huggingface_hub"
    extra: ClassVar[str] = "agentsight-tokens-huggingface"

    def __init__(self) -> None:
        self._original: Any = None

    def install(self, meter: Meter, config: TokenConfig) -> None:
        """Count from now on."""
        from huggingface_hub import InferenceClient  # only who has a handler on pays for it

        original = self._original = InferenceClient.chat_completion

        @functools.wraps(original)
        def chat_completion(client: Any, messages: list[Any], **options: Any) -> Any:
            call = meter.begin(
                self.name,
                model=options.get("model") or client.model,
                provider=client.provider or "huggingface",
                asked=lambda: Asked(messages, options.get("max_tokens"), options.get("n") or 1),
            )
            if options.get("stream") and config.stream_usage:
                # A stream says what it used only when it is asked to.
                options.setdefault("stream_options", {"include_usage": True})
            try:
                answer = original(client, messages, **options)
            except BaseException as error:
                failed(call, error)
                raise
            if options.get("stream"):
                return counted(answer, call)
            finish(call, answer)
            return answer

        InferenceClient.chat_completion = chat_completion

    def uninstall(self) -> None:
        """Count no more."""
        from huggingface_hub import InferenceClient

        InferenceClient.chat_completion = self._original


def counted(stream: Iterator[Any], call: OpenCall) -> Iterator[Any]:
    """Yield a stream's chunks, and finish its call with the one that tells the usage."""
    last = None
    try:
        for chunk in stream:
            call.first_token()
            if chunk.usage is not None or last is None:
                last = chunk
            yield chunk
    except GeneratorExit:  # the program left
        call.finish(None, status="cancelled", unreported_reason="cancelled")
        raise
    except BaseException as error:
        failed(call, error)
        raise
    finish(call, last)


def finish(call: OpenCall, answer: Any) -> None:
    """Finish a call with an answer, or with a stream's last chunk."""
    with contained("counting an answer of huggingface_hub"):
        # As a mapping an answer lacks the details of its usage, such as cached tokens.
        told = openai_chat(vars(answer))
        call.finish(
            told.usage or None,  # servers that do not count send zeros, or nothing
            model=told.model,
            response_id=told.response_id,
        )


def failed(call: OpenCall, error: BaseException) -> None:
    """Finish a call that raised; it may have been billed all the same."""
    with contained("counting a failed call of huggingface_hub"):
        call.finish(
            None,
            status="error",
            unreported_reason="error_without_usage",
            error_type=type(error).__name__,
        )
