"""CompressedMemory: a chat memory of LlamaIndex that stays within its model's window."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Final

from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.bridge.pydantic import Field, PrivateAttr
from llama_index.core.memory.types import DEFAULT_CHAT_STORE_KEY, BaseChatStoreMemory
from llama_index.core.storage.chat_store import BaseChatStore, SimpleChatStore

from agentsight_tokens.context import ContextMonitor
from agentsight_tokens.faults import contained

__all__ = ["CompressedMemory"]

_logger: Final = logging.getLogger("agentsight_tokens")


class CompressedMemory(BaseChatStoreMemory):
    """
    A memory that compresses a conversation when it fills too much of the model's window.

    Until then nothing is left out. What a compression leaves takes the place of the messages
    in the chat store, so that a summary is made once.
    """

    model: str | None = Field(default=None, description="The model that reads the messages.")
    max_tokens: int | None = Field(
        default=None, description="The window, where you know better than the catalog."
    )
    threshold: float = Field(
        default=0.85, description="The part of the window above which it compresses."
    )
    _monitor: ContextMonitor = PrivateAttr()

    def __init__(self, *, summarize: object | None = None, **fields: Any) -> None:
        super().__init__(**fields)
        self._monitor = ContextMonitor(
            self.model, max_tokens=self.max_tokens, threshold=self.threshold, summarize=summarize
        )

    @classmethod
    def class_name(cls) -> str:
        """Return the name under which LlamaIndex writes the memory down."""
        return "CompressedMemory"

    @classmethod
    def from_defaults(  # noqa: PLR0913  # each is a part of its own
        cls,
        chat_history: list[ChatMessage] | None = None,
        llm: Any = None,
        *,
        chat_store: BaseChatStore | None = None,
        chat_store_key: str = DEFAULT_CHAT_STORE_KEY,
        model: str | None = None,
        max_tokens: int | None = None,
        threshold: float = 0.85,
        summarize: object | None = None,
        **kwargs: Any,
    ) -> CompressedMemory:
        """
        Return a memory.

        Args:
            chat_history: The messages that it begins with.
            llm: The model that reads it, by which tokens are counted and the window is known.
            chat_store: Where the messages lie; in this process when None.
            chat_store_key: The name of the conversation there.
            model: The model's name, in the place of `llm`.
            max_tokens: The window, where you know better than the catalog or want less.
            threshold: The part of the window above which it compresses.
            summarize: Makes summaries: a model, or a function of the old messages.
            **kwargs: There are no others.

        Raises:
            TypeError: For an argument that there is not.
            ValueError: For a window or a threshold that cannot be one.
        """
        if kwargs:
            raise TypeError(f"from_defaults() got unexpected arguments: {', '.join(kwargs)}")
        store = chat_store or SimpleChatStore()
        if chat_history is not None:
            store.set_messages(chat_store_key, chat_history)
        return cls(
            chat_store=store,
            chat_store_key=chat_store_key,
            model=model or (None if llm is None else llm.metadata.model_name),
            max_tokens=max_tokens,
            threshold=threshold,
            summarize=summarize,
        )

    def get(self, input: str | None = None, **kwargs: Any) -> list[ChatMessage]:
        """Return the conversation, compressed if it must be."""
        messages = list(self.get_all())  # a store may give the list that it goes on with
        with contained("compressing a memory"):
            if self._monitor.inspect(messages).should_compress:
                shorter = self._monitor.compress(messages).messages
                self.set(_with_later(shorter, messages, self.get_all()))
                return _told(shorter, messages)
        return messages

    async def aget(self, input: str | None = None, **kwargs: Any) -> list[ChatMessage]:
        """Do what `get` does, and await a summary that comes asynchronously."""
        messages = list(await self.aget_all())
        with contained("compressing a memory"):
            if self._monitor.inspect(messages).should_compress:
                shorter = (await self._monitor.acompress(messages)).messages
                await self.aset(_with_later(shorter, messages, await self.aget_all()))
                return _told(shorter, messages)
        return messages


def _with_later(
    shorter: list[ChatMessage], before: Sequence[ChatMessage], now: Sequence[ChatMessage]
) -> list[ChatMessage]:
    """Return what is kept: a message may have come while a summary was made."""
    return [*shorter, *now[len(before) :]]


def _told(shorter: list[ChatMessage], messages: Sequence[ChatMessage]) -> list[ChatMessage]:
    _logger.info("Memory compressed: %d messages to %d", len(messages), len(shorter))
    return shorter
