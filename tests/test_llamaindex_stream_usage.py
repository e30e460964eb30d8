"""How LlamaIndex's streams are asked for their usage, and whose are not."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from llama_index.llms.openai import OpenAI

from agentsight_tokens.testing import LoopbackProvider
from agentsight_tokens_llamaindex.stream_usage import (
    _first_contact,
    _first_contact_async,
    _Servers,
)
from agentsight_tokens_wire.patches import Patches
from tests.llamaindex_kit import (
    D,
    Kit,
    chat,
    drain,
    handler_kit,
    run,
)


@pytest.fixture
def kit(tmp_path: Path) -> Iterator[Kit]:
    with handler_kit(tmp_path) as kit:
        yield kit


def test_stream_usage_is_not_asked_of_whatever_server(kit: Kit) -> None:
    """OpenAILike may lead to a server that refuses what it does not know."""

    class OpenAILike(OpenAI):
        __module__ = "llama_index.llms.openai_like.base"

    model = OpenAILike(model="gpt-4o", api_base=kit.provider.openai_url, api_key="k")
    list(model.stream_complete(D))

    assert "stream_options" not in kit.provider.received[0].body
    assert kit.usage().unreported_calls == 1


def test_what_the_user_said_about_streams_holds(kit: Kit) -> None:
    """Whoever switched the usage off, or asked for more, gets just that."""
    for options in ({"include_usage": False}, {"other": True}):
        model = kit.openai(additional_kwargs={"stream_options": options})
        list(model.stream_complete(D))

    asked = [request.body["stream_options"] for request in kit.provider.received]
    assert asked == [{"include_usage": False}, {"other": True, "include_usage": True}]


def test_stream_usage_can_be_left_out(tmp_path: Path) -> None:
    """`stream_usage` off: requests are left as they are."""
    with handler_kit(tmp_path, configure=lambda c: c.replace(stream_usage=False)) as kit:
        list(kit.openai().stream_complete(D))

        assert "stream_options" not in kit.provider.received[0].body


def test_server_that_refuses_stream_options(kit: Kit) -> None:
    """A strict server is asked again without the field, and not bothered any more."""
    with LoopbackProvider(keep_alive=False, reject_unknown_stream_options=True) as strict:
        model = kit.openai(api_base=strict.openai_url)
        assert list(model.stream_complete(D))
        assert list(model.stream_chat(chat(D)))
        assert run(drain(model.astream_chat(chat(D))))
        assert strict.requests == 4

    with LoopbackProvider(keep_alive=False, reject_unknown_stream_options=True) as strict:
        model = kit.openai(api_base=strict.openai_url)
        assert run(drain(model.astream_chat(chat(D))))
        assert strict.requests == 2
    assert {r.unreported_reason for r in kit.records()} == {"stream_without_usage"}
    assert kit.usage().unreported_calls == 4


def test_other_refusals_reach_the_program(kit: Kit) -> None:
    """An error that is not about what we added is the program's."""
    with pytest.raises(Exception, match="400"):
        list(kit.openai().stream_complete("[[status=400]]"))
    with pytest.raises(Exception, match="400"):
        run(drain(kit.openai().astream_complete("[[status=400]]")))

    assert kit.provider.requests == 2
    assert kit.usage().unreported_calls == 0


def test_streams_that_bring_nothing() -> None:
    """An empty stream from an unknown server stays empty."""
    servers = _Servers(Patches())
    assert not list(_first_contact(servers, None, iter(()), lambda: iter((1,))))

    async def nothing() -> AsyncIterator[Any]:
        for each in ():
            yield each

    async def read() -> list[Any]:
        return [each async for each in _first_contact_async(servers, None, nothing(), nothing)]

    assert not run(read())
