"""LangChain's clients of the loopback provider."""

from __future__ import annotations

import importlib
import json
import sqlite3
from collections.abc import Sequence
from typing import Any, cast

from langchain_core.caches import BaseCache
from langchain_core.callbacks import CallbackManager
from langchain_core.embeddings import Embeddings
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import HumanMessage, message_to_dict, messages_from_dict
from langchain_core.outputs import ChatGeneration, ChatResult, Generation
from langchain_core.tools import tool

from agentsight_tokens.conformance.clients import Clients

__all__ = [
    "D",
    "LangChainClients",
    "Remembering",
    "SQLiteCache",
    "Wrapping",
    "asked",
    "lookup",
    "prompts",
]

D = "hi"
"""A prompt without a directive: 11 tokens in, 4 of them cached, and 7 out, 2 reasoning."""

ASK_TOOL = "[[in=11 out=7 tool=lookup]]"


class LangChainClients(Clients):
    """
    Makes clients as a program does.

    What is not installed raises `ModuleNotFoundError`, which skips the scenario.
    """

    def openai(self, **options: Any) -> Any:
        """Return a chat model of OpenAI."""
        return _loaded("langchain_openai", "ChatOpenAI")(**self._options("gpt-4o-mini", options))

    def legacy(self, **options: Any) -> Any:
        """Return a model of OpenAI's completions."""
        options = self._options("gpt-3.5-turbo-instruct", options)
        return _loaded("langchain_openai", "OpenAI")(**options)

    def anthropic(self, **options: Any) -> Any:
        """Return a chat model of Anthropic."""
        options = {"model": "claude-haiku-4-5", "api_key": "k", "max_retries": 0, **options}
        options["base_url"] = self.provider.anthropic_url
        return _loaded("langchain_anthropic", "ChatAnthropic")(**options)

    def embeddings(self, **options: Any) -> Any:
        """Return OpenAI's embeddings."""
        options = self._options("text-embedding-3-small", options)
        made = _loaded("langchain_openai", "OpenAIEmbeddings")
        return made(check_embedding_ctx_length=False, **options)

    def agent(self, *tools: Any, **options: Any) -> Any:
        """Return an agent's graph with its tools; `lookup` if none are given."""
        graph = importlib.import_module(f"{__package__}.graph")
        return graph.agent(self.openai(**options), list(tools) or [lookup])

    def callbacks_twice(self) -> list[Any]:
        """Return the meter's own callback, passed twice by mistake."""
        return [self.meter.langchain_callback] * 2 if self.meter.langchain_callback else []

    def own_manager(self) -> Any:
        """Return a callback manager of the program's own."""
        return CallbackManager([])

    def _options(self, model: str, options: dict[str, Any]) -> dict[str, Any]:
        base = {"base_url": self.provider.openai_url, "api_key": "k", "max_retries": 0}
        return {"model": model, **base, **options}


class Wrapping(BaseChatModel):
    """A program's own model, which passes on what another one says."""

    inner: Any

    @property
    def _llm_type(self) -> str:
        return "own"

    def _generate(self, messages: list[Any], *args: Any, **kwargs: Any) -> ChatResult:
        return _passed_on(self.inner.invoke(messages))

    async def _agenerate(self, messages: list[Any], *args: Any, **kwargs: Any) -> ChatResult:
        return _passed_on(await self.inner.ainvoke(messages))


def _passed_on(message: Any) -> ChatResult:
    return ChatResult(generations=[ChatGeneration(message=message)])


class SQLiteCache(BaseCache):
    """Keeps answers as text, as langchain-community's cache of this name does."""

    def __init__(self) -> None:
        self._rows = sqlite3.connect(":memory:", check_same_thread=False)
        self._rows.execute("CREATE TABLE answers (prompt, llm, place, answer)")

    def lookup(self, prompt: str, llm_string: str) -> list[Generation] | None:
        """Return the answers to a prompt."""
        question = "SELECT answer FROM answers WHERE prompt = ? AND llm = ? ORDER BY place"
        rows = self._rows.execute(question, (prompt, llm_string)).fetchall()
        found = messages_from_dict([json.loads(row[0]) for row in rows])
        return [ChatGeneration(message=each) for each in found] or None

    def update(self, prompt: str, llm_string: str, return_val: Sequence[Generation]) -> None:
        """Keep the answers to a prompt."""
        kept = [json.dumps(message_to_dict(each.message)) for each in cast("Any", return_val)]
        rows = [(prompt, llm_string, i, text) for i, text in enumerate(kept)]
        self._rows.executemany("INSERT INTO answers VALUES (?, ?, ?, ?)", rows)

    def clear(self, **kwargs: Any) -> None:
        """Forget every answer."""
        self._rows.execute("DELETE FROM answers")


class Remembering(Embeddings):
    """Embeds each text once, as langchain's CacheBackedEmbeddings do."""

    def __init__(self, inner: Embeddings) -> None:
        self.inner = inner
        self.known: dict[str, list[float]] = {}

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Return the vectors of texts, and embed those that are new."""
        new = [text for text in texts if text not in self.known]
        if new:
            self.known.update(zip(new, self.inner.embed_documents(new), strict=True))
        return [self.known[text] for text in texts]

    def embed_query(self, text: str) -> list[float]:
        """Return the vector of a text."""
        return self.embed_documents([text])[0]


@tool
def lookup(q: str = "") -> str:
    """Look something up."""
    return "found"


def asked(text: str = ASK_TOOL) -> dict[str, Any]:
    """Return what an agent is given: a prompt that makes it use its tool."""
    return {"messages": [HumanMessage(text)]}


def prompts(texts: list[str]) -> list[list[Any]]:
    """Return texts as the messages that `generate` takes."""
    return [[HumanMessage(text)] for text in texts]


def _loaded(module: str, name: str) -> Any:
    return getattr(importlib.import_module(module), name)
