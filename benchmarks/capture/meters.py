"""The meters that are compared, each behind the same three questions."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

from agentsight_tokens.conformance import Figures


class Peer:
    """A meter of somebody else; it knows no conversations of ours, so all is counted together."""

    langchain_callback: Any = None

    def conversation(self, conversation_id: str) -> contextlib.AbstractContextManager[object]:
        return contextlib.nullcontext()

    def send(self, conversation_id: str) -> int | None:
        return None

    def reset(self) -> None:
        """Begin a scenario at zero."""

    def figures(self, conversation_id: str | None = None) -> Figures:
        """Return what was counted since the last reset."""
        raise NotImplementedError


def counted(prompt: int, completion: int, total: int = 0, embedding: int = 0) -> Figures:
    return Figures(prompt, completion, total or prompt + completion, embedding)


def in_every_run(handler: Any) -> None:
    """Let LangChain add a callback to every run, as its own context managers do."""
    from contextvars import ContextVar

    from langchain_core.tracers.context import register_configure_hook

    register_configure_hook(ContextVar("peer", default=handler), inheritable=True)


class UsageMetadata(Peer):
    """langchain-core's `UsageMetadataCallbackHandler`."""

    def __init__(self) -> None:
        from langchain_core.callbacks import UsageMetadataCallbackHandler

        self.langchain_callback = UsageMetadataCallbackHandler()
        in_every_run(self.langchain_callback)

    def reset(self) -> None:
        self.langchain_callback.usage_metadata.clear()

    def figures(self, conversation_id: str | None = None) -> Figures:
        found = self.langchain_callback.usage_metadata.values()
        return counted(
            sum(each.get("input_tokens", 0) for each in found),
            sum(each.get("output_tokens", 0) for each in found),
            sum(each.get("total_tokens", 0) for each in found),
        )


class OpenAICallback(Peer):
    """langchain-community's `OpenAICallbackHandler`."""

    def __init__(self) -> None:
        from langchain_community.callbacks.openai_info import OpenAICallbackHandler

        self.langchain_callback = OpenAICallbackHandler()
        in_every_run(self.langchain_callback)

    def reset(self) -> None:
        handler = self.langchain_callback
        handler.prompt_tokens = handler.completion_tokens = handler.total_tokens = 0

    def figures(self, conversation_id: str | None = None) -> Figures:
        handler = self.langchain_callback
        return counted(handler.prompt_tokens, handler.completion_tokens, handler.total_tokens)


class TokenCounting(Peer):
    """llama-index-core's `TokenCountingHandler`, in the global settings before anything else."""

    def __init__(self) -> None:
        from llama_index.core import Settings
        from llama_index.core.callbacks import CallbackManager, TokenCountingHandler

        self.handler = TokenCountingHandler()
        Settings.callback_manager = CallbackManager([self.handler])

    def reset(self) -> None:
        self.handler.reset_counts()

    def figures(self, conversation_id: str | None = None) -> Figures:
        return counted(
            self.handler.prompt_llm_token_count,
            self.handler.completion_llm_token_count,
            self.handler.total_llm_token_count,
            self.handler.total_embedding_token_count,
        )


class Spans(Peer):
    """A meter that writes spans, from which the backend would add up the tokens."""

    def __init__(self) -> None:
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

        self.exporter = InMemorySpanExporter()

    def reset(self) -> None:
        self.exporter.clear()

    def sum(self, name: str) -> int:
        return sum(
            (span.attributes or {}).get(name, 0) for span in self.exporter.get_finished_spans()
        )


class OpenInference(Spans):
    """OpenInference's instrumentors of both frameworks."""

    def __init__(self) -> None:
        super().__init__()
        from openinference.instrumentation.langchain import LangChainInstrumentor
        from openinference.instrumentation.llama_index import LlamaIndexInstrumentor
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor

        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        for instrumentor in (LangChainInstrumentor(), LlamaIndexInstrumentor()):
            instrumentor.instrument(tracer_provider=provider)

    def figures(self, conversation_id: str | None = None) -> Figures:
        return counted(
            self.sum("llm.token_count.prompt"),
            self.sum("llm.token_count.completion"),
            self.sum("llm.token_count.total"),
            self.sum("embedding.token_count.total"),
        )


class AgentSight(Spans):
    """AgentSight's SDK, as its `init` sets it up; its input leaves the cache out."""

    targets: bool | tuple[str, ...] = True

    def __init__(self) -> None:
        super().__init__()
        import agentsight

        self.sdk = agentsight
        targets = self.targets if self.targets is True else list(self.targets)
        agentsight.init(auto_instrument=targets, span_exporter=self.exporter, verify_key=False)

    def conversation(self, conversation_id: str) -> Any:
        return self.sdk.conversation(conversation_id)

    def figures(self, conversation_id: str | None = None) -> Figures:
        self.sdk.flush()
        cached = self.sum("agentsight.llm.cache_read_tokens")
        written = self.sum("agentsight.llm.cache_write_tokens")
        return counted(
            self.sum("gen_ai.usage.input_tokens") + cached + written,
            self.sum("gen_ai.usage.output_tokens"),
            embedding=self.sum("agentsight.llm.embedding_tokens"),
        )


class AgentSightHandlers(AgentSight):
    """The same, with its handlers of the frameworks alone."""

    targets = ("langchain", "llama_index")


class Ours(Peer):
    """This package."""

    wire_taps = "on"

    def __init__(self) -> None:
        os.environ["AGENTSIGHT_WIRE_TAPS"] = self.wire_taps
        self.folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self.number = 0

    def reset(self) -> None:
        from agentsight_tokens import ConversationTracker, TokenConfig

        self.number += 1
        config = TokenConfig(data_dir=f"{self.folder.name}/{self.number}", exit_flush_seconds=0)
        handlers = ",".join(self.handlers())
        self.tracker = ConversationTracker(None, "default", token_handler=handlers, config=config)

    def handlers(self) -> Iterator[str]:
        from agentsight_tokens.handlers import registered_handlers

        return (name for name in ("langchain", "llamaindex") if name in registered_handlers())

    def conversation(self, conversation_id: str) -> Any:
        return self.tracker.conversation(conversation_id)

    def figures(self, conversation_id: str | None = None) -> Figures:
        usage = self.tracker.get_usage()
        partial = self.tracker.get_usage(status="partial").request_count
        figures = counted(
            usage.input_tokens, usage.output_tokens, usage.total_tokens, usage.embedding_tokens
        )
        return figures._replace(unreported_calls=usage.unreported_calls, partial_calls=partial)


class OursCallbacksOnly(Ours):
    """This package, with its taps of the SDKs off."""

    wire_taps = "off"


METERS: dict[str, tuple[Callable[[], Any], tuple[str, ...]]] = {
    "UsageMetadataCallbackHandler": (UsageMetadata, ("langchain",)),
    "OpenAICallbackHandler": (OpenAICallback, ("langchain",)),
    "TokenCountingHandler": (TokenCounting, ("llamaindex",)),
    "OpenInference": (OpenInference, ("langchain", "llamaindex")),
    "agentsight, handlers only": (AgentSightHandlers, ("langchain", "llamaindex")),
    "agentsight": (AgentSight, ("langchain", "llamaindex")),
    "agentsight-tokens, callbacks only": (OursCallbacksOnly, ("langchain", "llamaindex")),
    "agentsight-tokens": (Ours, ("langchain", "llamaindex")),
}
"""What makes each meter, and the frameworks that it covers."""
