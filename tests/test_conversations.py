"""Conversations under load, with real clients, held against the provider's own ledger."""

from __future__ import annotations

import asyncio
import gc
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from agentsight_tokens import ConversationTracker
from agentsight_tokens.testing import LoopbackProvider

pytest.importorskip("langchain_openai")
pytest.importorskip("llama_index.llms.openai")


@pytest.fixture
def provider() -> Iterator[LoopbackProvider]:
    # Without keep-alive no client leaves a socket open for the next test to warn of.
    with LoopbackProvider(keep_alive=False) as provider:
        yield provider


@pytest.fixture(params=["langchain", "llamaindex"])
def framework(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def tracker(framework: str) -> Iterator[ConversationTracker]:
    with ConversationTracker(token_handler=framework) as tracker:
        yield tracker


def client(framework: str, provider: LoopbackProvider) -> tuple[Callable, Callable, Callable]:
    """Return what asks, asks in a task, and streams."""
    if framework == "langchain":
        from langchain_openai import ChatOpenAI

        model = ChatOpenAI(base_url=provider.openai_url, api_key="k", model="gpt-4o-mini")
        return model.invoke, model.ainvoke, model.stream
    from llama_index.llms.openai import OpenAI

    llm = OpenAI(api_base=provider.openai_url, api_key="k", model="gpt-4o-mini")
    return llm.complete, llm.acomplete, llm.stream_complete


def prompt(number: int, turn: int) -> str:
    counts = f"in={1000 + number} out={number + turn} cached={number} reasoning={turn}"
    return f"[[{counts} label=c{number}]]"


@contextmanager
def sending(tracker: ConversationTracker, count: int) -> Iterator[None]:
    """Send some conversation every 3 ms."""
    stop = threading.Event()

    def send() -> None:
        number = 0
        while not stop.wait(0.003):
            with tracker.conversation(f"c{number % count}"):
                tracker.send_tracked_data()
            number += 1

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def stored(tracker: ConversationTracker) -> dict[str, tuple[int, ...]]:
    connection = sqlite3.connect(Path(tracker.config.data_dir) / "store.db")
    try:
        rows = connection.execute(
            "SELECT conversation_id, COUNT(*), SUM(input_tokens), SUM(output_tokens), "
            "SUM(cache_read_tokens), SUM(reasoning_tokens) FROM calls GROUP BY 1"
        ).fetchall()
    finally:
        connection.close()
    return {row[0]: tuple(row[1:]) for row in rows}


def billed(provider: LoopbackProvider, count: int) -> dict[str, tuple[int, ...]]:
    found = {}
    for number in range(count):
        usage = provider.billed(f"c{number}")
        calls = sum(call.label == f"c{number}" for call in provider.ledger)
        found[f"c{number}"] = (
            calls,
            usage.input_tokens,
            usage.output_tokens,
            usage.cache_read_tokens,
            usage.reasoning_tokens,
        )
    return found


def test_threads_never_mix(
    tracker: ConversationTracker, provider: LoopbackProvider, framework: str
) -> None:
    """64 conversations on 16 threads, 4 calls each, while a send runs every 3 ms."""
    ask, _, _ = client(framework, provider)

    def talk(number: int) -> None:
        with tracker.conversation(f"c{number}"):
            for turn in range(4):
                ask(prompt(number, turn))

    with sending(tracker, 64), ThreadPoolExecutor(16) as pool:
        list(pool.map(talk, range(64)))
    directory = tracker.config.data_dir
    tracker.close()

    assert Path(directory).is_dir()
    assert stored(tracker) == billed(provider, 64)
    assert stored(tracker)["c7"][:3] == (4, 4 * 1007, 4 * 7 + 6)


def test_tasks_never_mix(
    tracker: ConversationTracker, provider: LoopbackProvider, framework: str
) -> None:
    """100 conversations on asyncio, 4 calls each, while a send runs every 3 ms."""
    _, ask, _ = client(framework, provider)

    async def talk(number: int) -> None:
        with tracker.conversation(f"c{number}"):
            for turn in range(4):
                await ask(prompt(number, turn))

    async def main() -> None:
        await asyncio.gather(*(talk(number) for number in range(100)))

    with sending(tracker, 100):
        asyncio.run(main())
    tracker.close()

    assert stored(tracker) == billed(provider, 100)


def test_streams_belong_to_where_they_began(
    tracker: ConversationTracker, provider: LoopbackProvider, framework: str
) -> None:
    """Drained in another conversation or thread, or dropped, a stream is its beginning's."""
    _, _, stream = client(framework, provider)

    def begin(label: str) -> Iterator[object]:
        with tracker.conversation("a"):
            chunks = iter(stream(f"[[in=100 out=20 chunks=4 label={label}]]"))
            next(chunks)
            return chunks

    with tracker.conversation("b"):
        list(begin("drained"))
        chunks = begin("threaded")
        thread = threading.Thread(target=lambda chunks=chunks: list(chunks))
        thread.start()
        thread.join()
        chunks = begin("dropped")
        del chunks
        gc.collect()

    assert tracker.get_usage(conversation_id="b").request_count == 0
    usage = tracker.get_usage(conversation_id="a")
    assert usage.request_count == 3
    assert usage.input_tokens + 100 * usage.unreported_calls >= 300
    assert tracker.get_usage().request_count == 3
