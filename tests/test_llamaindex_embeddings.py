"""Embeddings of LlamaIndex: those that a tap counts, and the others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.storage.kvstore import SimpleKVStore
from llama_index.core.tools import FunctionTool

from agentsight_tokens.errors import EncodingUnavailableError
from tests.llamaindex_kit import (
    BatchEmbedding,
    Kit,
    LocalEmbedding,
    SDKEmbedding,
    handler_kit,
    run,
)


@pytest.fixture
def kit(tmp_path: Path) -> Iterator[Kit]:
    with handler_kit(tmp_path) as kit:
        yield kit


@pytest.fixture
def words(monkeypatch: pytest.MonkeyPatch) -> None:
    """Count words, so that no encoding has to be on this machine."""
    monkeypatch.setattr(
        "agentsight_tokens.counting.TokenCounter.count",
        lambda self, text=None: len(text.split()),
    )


def test_embedding_in_a_tool_is_named(kit: Kit) -> None:
    """What the tap on the SDK counts knows its tool as well."""
    tool = FunctionTool.from_defaults(lambda: kit.embedding().get_text_embedding("a"), name="find")

    tool.call()

    assert (kit.record().tool_name, kit.record().operation) == ("find", "embedding")


@pytest.mark.usefixtures("words")
@pytest.mark.parametrize("model", [LocalEmbedding(), BatchEmbedding()], ids=lambda m: type(m))
def test_untapped_embeddings_are_estimated(kit: Kit, model: Any) -> None:
    """Embeddings that no tap saw are counted by a tokenizer, and say so."""
    model.embed_batch_size = 2
    model.get_text_embedding_batch(["a b", "c d", "e"])
    run(model.aget_text_embedding_batch(["a b", "c d", "e"]))
    model.get_text_embedding("one two")
    run(model.aget_text_embedding("one two"))
    model.get_query_embedding("one two")
    run(model.aget_query_embedding("one two"))

    assert kit.usage().embedding_tokens == 18
    assert {record.source for record in kit.records()} == {"estimated"}


def test_estimates_are_offline(kit: Kit) -> None:
    """The encoding that comes with LlamaIndex is found without a network."""
    LocalEmbedding(model_name="text-embedding-3-small").get_query_embedding("one two three")

    assert kit.record().embedding_tokens == 3
    assert (kit.record().model, kit.record().source) == ("text-embedding-3-small", "estimated")


@pytest.mark.usefixtures("words")
def test_cached_estimates(kit: Kit) -> None:
    """A text that the cache answered is neither estimated nor unreported."""
    model = LocalEmbedding(embeddings_cache=SimpleKVStore())
    for _ in range(2):
        model.get_query_embedding("one two")
        model.get_text_embedding_batch(["three"])
        run(model.aget_text_embedding_batch(["four"]))

    usage = kit.usage()
    assert (usage.embedding_tokens, usage.unreported_calls) == (4, 0)


@pytest.mark.usefixtures("words")
def test_cached_batches_that_tell_nothing(kit: Kit) -> None:
    """Where nobody tells how much the cache answered, nothing is guessed."""
    BatchEmbedding(embeddings_cache=SimpleKVStore()).get_text_embedding_batch(["one two"])

    assert (kit.usage().embedding_tokens, kit.usage().unreported_calls) == (0, 1)


@pytest.mark.usefixtures("words")
def test_embedding_through_the_sdk_is_not_estimated(kit: Kit) -> None:
    """What the tap counts below a program's own class is not counted again."""
    SDKEmbedding(client=kit.sdk()).get_text_embedding_batch(["a [[in=13]]", "b [[in=13]]"])
    with pytest.raises(Exception, match="400"):
        SDKEmbedding(client=kit.sdk()).get_text_embedding("[[status=400]]")

    usage = kit.usage()
    assert (usage.embedding_tokens, usage.request_count, usage.unreported_calls) == (26, 3, 0)


def test_embeddings_without_an_encoding(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an encoding on this machine nothing is guessed."""

    def unavailable(self: Any, text: str | None = None) -> int:
        raise EncodingUnavailableError("cl100k_base")

    monkeypatch.setattr("agentsight_tokens.counting.TokenCounter.count", unavailable)
    LocalEmbedding().get_text_embedding("one two")

    assert (kit.usage().embedding_tokens, kit.usage().unreported_calls) == (0, 1)


def test_embedding_that_fails(kit: Kit) -> None:
    """A failed embedding is one unreported error."""
    with pytest.raises(ConnectionError):
        LocalEmbedding().get_text_embedding("fail")

    assert (kit.record().status, kit.record().error_type) == ("error", "ConnectionError")


def test_embeddings_can_be_left_out(tmp_path: Path) -> None:
    """`capture_embeddings` off: no embedding is counted at all."""
    with handler_kit(tmp_path, configure=lambda c: c.replace(capture_embeddings=False)) as kit:
        kit.embedding().get_text_embedding("a")
        LocalEmbedding().get_text_embedding("a")

        assert not kit.records()
