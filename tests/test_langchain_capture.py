"""What the conformance suite does not show of LangChain: abandoned streams, own callbacks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler

from tests.langchain_kit import D, Kit, handler_kit, run


@pytest.fixture
def kit(tmp_path: Path) -> Iterator[Kit]:
    with handler_kit(tmp_path) as kit:
        yield kit


@pytest.mark.parametrize("mode", ["normal", "every_chunk"])
def test_stream_that_the_collector_closes(kit: Kit, mode: str) -> None:
    """A stream that nobody closes is counted in A when it is collected."""
    with kit.tracker.conversation("A"):
        stream = kit.openai().stream(f"[[in=11 out=7 chunks=7 text=1234567 mode={mode}]]")
        next(stream)
        next(stream)
    with kit.tracker.conversation("B"):
        del stream

    usage = kit.usage(conversation_id="A")
    assert usage.request_count == 1
    assert usage.unreported_calls == (mode == "normal")
    assert usage.input_tokens == (0 if mode == "normal" else 11)


class Counting(BaseCallbackHandler):
    """A callback of the program."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def on_chat_model_start(self, *args: Any, **kwargs: Any) -> None:
        self.events.append("start")

    def on_llm_start(self, *args: Any, **kwargs: Any) -> None:
        self.events.append("start")

    def on_llm_end(self, *args: Any, **kwargs: Any) -> None:
        self.events.append("end")


@pytest.mark.parametrize("model", ["openai", "legacy"])
def test_own_callbacks_fire_once(kit: Kit, model: str) -> None:
    """The program's own callbacks fire once a call, as they do without the handler."""
    counting, client = Counting(), getattr(kit, model)()

    client.invoke(D, {"callbacks": [counting]})
    run(client.ainvoke(D, {"callbacks": [counting]}))

    assert counting.events == ["start", "end"] * 2
    assert kit.usage().request_count == 2
