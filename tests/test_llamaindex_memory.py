"""CompressedMemory under real chat engines and agents of LlamaIndex."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("llama_index.llms.openai")

from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.chat_engine import SimpleChatEngine
from llama_index.core.llms import ChatMessage
from llama_index.core.memory import BaseMemory
from llama_index.core.storage.chat_store import SimpleChatStore

from agentsight_tokens import ContextMonitor, faults
from agentsight_tokens.testing import Reply, ToolCall
from agentsight_tokens_llamaindex.memory import CompressedMemory
from tests.llamaindex_kit import Kit, handler_kit

pytestmark = [  # llama-index-workflows looks at every attribute of an agent
    pytest.mark.filterwarnings("ignore:The `__fields:pydantic.warnings.PydanticDeprecatedSince20"),
    pytest.mark.filterwarnings(
        "ignore:Accessing the 'model_:pydantic.warnings.PydanticDeprecatedSince211"
    ),
]
WINDOW = ContextMonitor("gpt-4o-mini", max_tokens=1500)


@pytest.fixture
def kit(tmp_path: Path) -> Iterator[Kit]:
    with handler_kit(tmp_path / "own") as kit:
        yield kit


def talk(turns: int) -> list[ChatMessage]:
    said = []
    for number in range(turns):
        said.append(ChatMessage(role="user", content=f"Question {number}. " + "Why? " * 50))
        said.append(ChatMessage(role="assistant", content="Because. " * 60))
    return said


def sent(kit: Kit, position: int = -1) -> list[Any]:
    messages: list[Any] = kit.provider.received[position].body["messages"]
    return messages


def test_a_long_chat_stays_within_its_window(kit: Kit) -> None:
    """What is sent fits, a summary is made once, and its call is the compression's."""
    memory = CompressedMemory.from_defaults(
        talk(20), llm=kit.openai(), max_tokens=1500, summarize=kit.openai()
    )
    engine = SimpleChatEngine.from_defaults(llm=kit.openai(), memory=memory)

    engine.chat("And now?")
    engine.chat("And then?")

    first, second, third = kit.records()
    assert [r.tool_name for r in (first, second, third)] == ["context_compression", None, None]
    assert "Summarise the following part" in sent(kit, 0)[0]["content"]
    assert "Summary of the conversation so far" in sent(kit, 1)[0]["content"]
    assert sent(kit, 1)[-1]["content"] == "And now?"
    for position in (1, 2):
        assert WINDOW.inspect(sent(kit, position)).tokens < 1300
    assert len(memory.get_all()) < 20
    assert memory.model == "gpt-4o-mini"


def test_a_short_chat_is_left_as_it_is(kit: Kit) -> None:
    """Nothing is left out that need not be, however long the buffer of others would be."""
    history = talk(20)
    memory = CompressedMemory.from_defaults(history, llm=kit.openai())

    assert memory.get() == history
    assert asyncio.run(memory.aget("What?")) == history


def test_an_agent_compresses_between_its_steps(kit: Kit) -> None:
    """FunctionAgent reads its memory asynchronously; calls of tools keep their answers."""
    kit.provider.enqueue(
        Reply(tool_calls=(ToolCall("weather", {"place": "Rome"}),)), Reply(text="Sunny.")
    )

    def weather(place: str) -> str:
        """Tell the weather."""
        return "sunny in " + place

    async def summarize(old: list[ChatMessage]) -> str:
        await asyncio.sleep(0)
        return "They asked why."

    async def main() -> tuple[str, BaseMemory]:
        memory = CompressedMemory.from_defaults(
            talk(20), model="gpt-4o-mini", max_tokens=1500, summarize=summarize
        )
        agent = FunctionAgent(llm=kit.openai(), tools=[weather], streaming=False)
        answer = await agent.run("And now?", memory=memory)
        return str(answer), memory

    answer, memory = asyncio.run(main())

    assert answer == "Sunny."
    assert len(kit.records()) == 2
    for position in (0, 1):
        assert WINDOW.inspect(sent(kit, position)).tokens < 1300
        assert "They asked why." in sent(kit, position)[0]["content"]
    assert [m["role"] for m in sent(kit)][-2:] == ["assistant", "tool"]
    assert len(memory.get_all()) < 20


def test_a_message_that_comes_during_a_summary_stays(kit: Kit) -> None:
    """Two tasks may share a memory."""

    async def main() -> list[ChatMessage]:
        async def summarize(old: list[ChatMessage]) -> str:
            await memory.aput(ChatMessage(role="user", content="Wait!"))
            return "They asked why."

        memory = CompressedMemory.from_defaults(
            talk(20), model="gpt-4o-mini", max_tokens=1500, summarize=summarize
        )
        read = await memory.aget()
        assert "Wait!" not in [m.content for m in read]
        return memory.get_all()

    kept = asyncio.run(main())

    assert kept[-1].content == "Wait!"
    assert "They asked why." in str(kept[0].content)


def test_the_messages_lie_in_any_chat_store() -> None:
    """Another memory of the same store and key goes on with them."""
    store = SimpleChatStore()
    options = {"model": "gpt-4o-mini", "chat_store": store, "chat_store_key": "alice"}

    CompressedMemory.from_defaults(talk(2), **options)

    assert CompressedMemory.from_defaults(**options).get() == talk(2)
    assert CompressedMemory.class_name() == "CompressedMemory"


def test_our_own_trouble_stops_no_chat(monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be compressed is sent as it is; wrong use raises where it is made."""
    monkeypatch.setattr(faults, "_raises", False)
    memory = CompressedMemory.from_defaults(talk(20), model="gpt-4o-mini", max_tokens=1500)
    monkeypatch.setattr(faults, "_counts", Counter())
    monkeypatch.setattr(ContextMonitor, "inspect", lambda *args: 1 / 0)

    assert memory.get() == memory.get_all()
    assert asyncio.run(memory.aget()) == memory.get_all()
    assert faults.fault_counts() == {"compressing a memory": 2}
    with pytest.raises(TypeError, match="unexpected arguments: token_limit"):
        CompressedMemory.from_defaults(token_limit=5)
    with pytest.raises(ValueError, match="threshold must lie"):
        CompressedMemory.from_defaults(threshold=2)
