"""Three ways to call a provider: LangChain, LlamaIndex, and by hand."""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple, Protocol

from agentsight_tokens import ConversationTracker

__all__ = [
    "Client",
    "Framework",
    "LangChainClient",
    "LlamaIndexClient",
    "ManualClient",
    "Provider",
    "frameworks",
]

DEFAULT_URL: Final = "https://api.openai.com/v1"


class Provider(NamedTuple):
    """Where calls go."""

    api_key: str
    url: str | None
    """The provider's address; None leaves it to the client."""
    is_local: bool
    """Whether it is on this machine, so that no proxy is asked."""


class Client(Protocol):
    """Makes the demo's calls. What they return is not needed."""

    def chat(self, model: str, text: str) -> None:
        """Ask, and wait for the answer."""

    def stream(self, model: str, text: str) -> None:
        """Ask, and take the answer as it comes."""

    def embed(self, model: str, texts: Sequence[str]) -> None:
        """Embed texts."""

    def close(self) -> None:
        """Close the connections."""


class LangChainClient:
    """ChatOpenAI and OpenAIEmbeddings, as a program uses them."""

    def __init__(self, provider: Provider) -> None:
        self._http = _http_client(provider)
        self._options: dict[str, Any] = {
            "api_key": provider.api_key,
            "base_url": provider.url,
            "http_client": self._http,
        }
        self._chat = _loaded("langchain_openai", "ChatOpenAI")
        self._embeddings = _loaded("langchain_openai", "OpenAIEmbeddings")
        self._tracing = _loaded("langsmith", "tracing_context")

    def chat(self, model: str, text: str) -> None:
        """Ask, and wait for the answer."""
        with self._tracing(enabled=False):
            self._chat(model=model, **self._options).invoke(text)

    def stream(self, model: str, text: str) -> None:
        """Ask, and take the answer as it comes."""
        with self._tracing(enabled=False):
            for _ in self._chat(model=model, **self._options).stream(text):
                pass

    def embed(self, model: str, texts: Sequence[str]) -> None:
        """Embed texts."""
        # Sent as they are: to check their length, a tokenizer would be downloaded.
        options = {**self._options, "check_embedding_ctx_length": False}
        self._embeddings(model=model, **options).embed_documents(list(texts))

    def close(self) -> None:
        """Close the connections."""
        if self._http is not None:
            self._http.close()


class LlamaIndexClient:
    """OpenAI and OpenAIEmbedding, as a program uses them."""

    def __init__(self, provider: Provider) -> None:
        self._http = _http_client(provider)
        self._options: dict[str, Any] = {
            "api_key": provider.api_key,
            "api_base": provider.url,
            "http_client": self._http,
        }
        self._llm = _loaded("llama_index.llms.openai", "OpenAI")
        self._embedding = _loaded("llama_index.embeddings.openai", "OpenAIEmbedding")

    def chat(self, model: str, text: str) -> None:
        """Ask, and wait for the answer."""
        self._llm(model=model, **self._options).complete(text)

    def stream(self, model: str, text: str) -> None:
        """Ask, and take the answer as it comes."""
        for _ in self._llm(model=model, **self._options).stream_complete(text):
            pass

    def embed(self, model: str, texts: Sequence[str]) -> None:
        """Embed texts."""
        self._embedding(model=model, **self._options).get_text_embedding_batch(list(texts))

    def close(self) -> None:
        """Close the connections."""
        if self._http is not None:
            self._http.close()


class ManualClient:
    """HTTP requests whose responses are given to the tracker by hand."""

    def __init__(self, provider: Provider, tracker: ConversationTracker) -> None:
        self._provider = provider
        self._tracker = tracker
        proxies = [urllib.request.ProxyHandler({})] if provider.is_local else []
        self._opener = urllib.request.build_opener(*proxies)

    def chat(self, model: str, text: str) -> None:
        """Ask, and wait for the answer."""
        [response] = self._post("chat/completions", model=model, messages=_messages(text))
        self._tracker.record(response)

    def stream(self, model: str, text: str) -> None:
        """Ask, and take the answer as it comes."""
        chunks = self._post(
            "chat/completions",
            model=model,
            messages=_messages(text),
            stream=True,
            stream_options={"include_usage": True},
        )
        *_, last = chunks  # the last one carries the usage
        self._tracker.record(last)

    def embed(self, model: str, texts: Sequence[str]) -> None:
        """Embed texts."""
        [response] = self._post("embeddings", model=model, input=list(texts))
        self._tracker.record(response)

    def close(self) -> None:
        """Close the connections."""
        self._opener.close()

    def _post(self, path: str, **body: Any) -> Iterator[dict[str, Any]]:
        """Yield the response, or the chunks of a stream."""
        request = urllib.request.Request(  # noqa: S310  # the address is the user's own
            f"{self._provider.url or DEFAULT_URL}/{path}",
            data=json.dumps(body).encode(),
            headers={
                "Authorization": f"Bearer {self._provider.api_key}",
                "Content-Type": "application/json",
            },
        )
        with self._answer(request) as response:
            if "stream" not in body:
                yield json.load(response)
                return
            for line in response:
                data = line.removeprefix(b"data:").strip()
                if data.startswith(b"{"):
                    yield json.loads(data)

    def _answer(self, request: urllib.request.Request) -> Any:
        try:
            return self._opener.open(request, timeout=60)
        except urllib.error.HTTPError as error:
            error.close()  # it holds the connection
            raise


class Framework(NamedTuple):
    """A framework that the demo can show."""

    handler: str
    title: str
    client: type[LangChainClient] | type[LlamaIndexClient]
    distributions: tuple[str, ...]
    """What its client needs; the version of the first one is shown."""

    @property
    def version(self) -> str | None:
        """The installed version; None if something is missing."""
        try:
            versions = [importlib.metadata.version(each) for each in self.distributions]
        except importlib.metadata.PackageNotFoundError:
            return None
        return versions[0]


def frameworks() -> tuple[Framework, ...]:
    """Return the frameworks that the demo knows, installed or not."""
    return (
        Framework(
            "langchain",
            "LangChain",
            LangChainClient,
            ("langchain-core", "langchain-openai"),
        ),
        Framework(
            "llamaindex",
            "LlamaIndex",
            LlamaIndexClient,
            ("llama-index-core", "llama-index-llms-openai", "llama-index-embeddings-openai"),
        ),
    )


def _http_client(provider: Provider) -> Any:
    """Return a client that asks no proxy for a provider of this machine, else None."""
    if not provider.is_local:
        return None
    return _loaded("openai", "DefaultHttpxClient")(trust_env=False)


def _loaded(module: str, name: str) -> Any:
    """Return a class of a framework, imported by name: the package itself depends on none."""
    return getattr(importlib.import_module(module), name)


def _messages(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]
