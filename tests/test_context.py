"""ContextMonitor: how full a window is, and compression that breaks nothing."""

from __future__ import annotations

import asyncio
import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentsight_tokens import (
    CompressionResult,
    ContextMonitor,
    auto_compress_context,
    faults,
)
from agentsight_tokens.context import COMPRESSION_TOOL
from agentsight_tokens.context.compression import STRATEGIES
from agentsight_tokens.context.messages import ReadMessage
from agentsight_tokens.scope import tool_in_force

Messages = list[dict[str, Any]]


def conversation(turns: int, *, tools: bool = True) -> Messages:
    """A system message, turns with a tool call each, and a last question."""
    messages: Messages = [{"role": "system", "content": "Answer briefly."}]
    for number in range(turns):
        messages.append({"role": "user", "content": f"Question {number}: " + "why so? " * 20})
        if tools:
            call = {"name": "search", "arguments": f'{{"q": "{number}"}}'}
            messages += [
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [{"id": f"c{number}", "type": "function", "function": call}],
                },
                {"role": "tool", "tool_call_id": f"c{number}", "content": "found: data " * 200},
            ]
        messages.append({"role": "assistant", "content": f"Answer {number}. " + "Because. " * 60})
    messages.append({"role": "user", "content": "And what now?"})
    return messages


def assert_unbroken(before: list[Any], after: list[Any]) -> None:
    """Hold what compression promises: system messages, pairs, the last words, the order."""
    read = [ReadMessage(message) for message in after]
    kept = [message for message in after if any(message is one for one in before)]
    positions = [next(i for i, one in enumerate(before) if one is m) for m in kept]
    assert positions == sorted(positions)
    for message in before:
        if ReadMessage(message).role == "system":
            assert message in after
    words = [m for m in before if ReadMessage(m).is_users_turn]
    if words:
        assert any(words[-1] is message for message in after)
    calls = {name for message in read for name in message.calls}
    answers = {name for message in read for name in message.answers}
    called = {name for m in before for name in ReadMessage(m).calls}
    answered = {name for m in before for name in ReadMessage(m).answers}
    assert calls & answered == answers & called
    for position, message in enumerate(read):
        if message.role == "tool":
            earlier = {name for one in read[:position] for name in one.calls}
            assert message.answers <= earlier


def test_an_inspection_tells_how_full_the_window_is() -> None:
    """Tokens by the model's tokenizer, the window of the catalog."""
    report = ContextMonitor("gpt-4o").inspect(conversation(3))

    assert report.max_tokens == 128_000
    assert report.tokens > 1000
    assert report.messages == 14
    assert report.utilization == report.tokens / 128_000
    assert (report.urgency, report.should_compress, report.is_estimate) == ("none", False, False)
    assert report.recommendation == "2% of the window is full: nothing needs to be done"


def test_an_unknown_window_is_unknown() -> None:
    """It is not 4,096, and nothing is urgent because of a guess."""
    with pytest.warns(UserWarning, match="no tokenizer"):
        report = ContextMonitor("acme/secret-1").inspect(conversation(100))

    assert (report.max_tokens, report.utilization, report.urgency) == (None, None, None)
    assert not report.should_compress
    assert report.is_estimate
    assert "pass max_tokens" in report.recommendation
    assert ContextMonitor().window_of() is None
    assert ContextMonitor(max_tokens=4096).window_of("gpt-4o") == 4096


@pytest.mark.parametrize(
    ("part", "urgency", "target", "strategy"),
    [
        (0.5, "none", 0.85, ()),
        (0.66, "low", 0.85, ()),
        (0.76, "medium", 0.80, ()),
        (0.86, "high", 0.75, ("smart_truncation",)),
        (0.96, "critical", 0.70, ("message_pruning",)),
        (2.5, "critical", 0.70, ("message_pruning", "smart_truncation")),
        (5, "critical", 0.70, ("message_pruning", "smart_truncation", "sliding_window")),
    ],
)
def test_urgency_decides_what_is_done(
    part: float, urgency: str, target: float, strategy: tuple[str, ...]
) -> None:
    """Five levels at 65, 75, 85 and 95 % of the window, each with its target."""
    messages = conversation(10)
    tokens = ContextMonitor("gpt-4o").inspect(messages).tokens
    monitor = ContextMonitor("gpt-4o", max_tokens=int(tokens / part))

    report = monitor.inspect(messages)
    result = monitor.compress(messages)

    assert report.urgency == urgency
    assert report.should_compress == (part > 0.85)
    assert result.target_tokens == int(int(tokens / part) * target)
    assert result.strategies == strategy
    assert result.fits
    assert_unbroken(messages, result.messages)


def test_a_result_tells_what_was_done() -> None:
    """Tokens before and after, the ratio, what was dropped and shortened."""
    messages = conversation(10)
    before = copy.deepcopy(messages)
    monitor = ContextMonitor("gpt-4o", max_tokens=4000)

    dropped = monitor.compress(messages, strategy="sliding_window")
    pruned = monitor.compress(messages, strategy="message_pruning", target_tokens=3500)
    unchanged = monitor.compress(messages, target_tokens=10**6)

    assert messages == before
    assert dropped.tokens_after == monitor.inspect(dropped.messages).tokens
    assert dropped.tokens_saved == dropped.tokens_before - dropped.tokens_after
    assert dropped.ratio == dropped.tokens_after / dropped.tokens_before
    assert dropped.dropped == len(messages) - len(dropped.messages)
    assert dropped.shortened == 0
    assert pruned.dropped == 0
    assert pruned.shortened > 0
    assert pruned.tokens_after == monitor.inspect(pruned.messages).tokens
    assert "characters left out" in pruned.messages[3]["content"]
    assert (unchanged.messages, unchanged.ratio, unchanged.strategies) == (messages, 1.0, ())
    assert (
        CompressionResult(messages=[], tokens_before=0, tokens_after=0, target_tokens=None).ratio
        == 1.0
    )


def test_whole_turns_are_dropped_oldest_first() -> None:
    """What is left begins with what a user said."""
    monitor = ContextMonitor("gpt-4o")

    result = monitor.compress(conversation(6), strategy="sliding_window", target_tokens=1500)

    assert [m["role"] for m in result.messages][:2] == ["system", "user"]
    assert result.messages[1]["content"].startswith("Question 5")


def test_an_agents_long_work_is_shortened_too() -> None:
    """Between the user's words and the newest answer, pairs go as wholes, oldest first."""
    messages = [m for m in conversation(8) if m["role"] != "user"]
    messages.insert(1, {"role": "user", "content": "Find everything."})
    monitor = ContextMonitor("gpt-4o")

    result = monitor.compress(messages, strategy="sliding_window", target_tokens=900)

    assert result.messages[:2] == messages[:2]
    assert result.messages[-1] is messages[-1]
    assert result.dropped > 10
    assert_unbroken(messages, result.messages)


def test_what_cannot_fit_says_so() -> None:
    """System messages and the last words stay, however long they are."""
    messages = conversation(2)
    monitor = ContextMonitor("gpt-4o")

    result = monitor.compress(messages, target_tokens=5)

    assert not result.fits
    assert [m["role"] for m in result.messages] == ["system", "user"]


def test_a_summary_takes_the_place_of_what_is_old() -> None:
    """The caller's function gets the old messages; its words come after the system's."""
    seen: list[Messages] = []

    def summarize(old: Messages) -> str:
        seen.append(old)
        assert tool_in_force() == COMPRESSION_TOOL
        return "They talked."

    messages = conversation(10)
    monitor = ContextMonitor("gpt-4o", max_tokens=4000, summarize=summarize)

    result = monitor.compress(messages)

    assert result.strategies == ("aggressive_summarization",)
    assert result.fits
    assert result.messages[1] == {
        "role": "user",
        "content": "Summary of the conversation so far:\nThey talked.",
    }
    assert result.dropped == len(seen[0])
    assert seen[0] == messages[1 : 1 + len(seen[0])]
    assert_unbroken(messages, result.messages)
    assert tool_in_force() is None


def test_a_summary_comes_before_cuts_at_every_urgency() -> None:
    """Just above the threshold too: whoever says how to summarise wants no text cut."""
    messages = conversation(10)
    tokens = ContextMonitor("gpt-4o").inspect(messages).tokens
    monitor = ContextMonitor(
        "gpt-4o", max_tokens=int(tokens / 0.87), summarize=lambda old: "They talked."
    )

    assert monitor.inspect(messages).urgency == "high"
    assert monitor.compress(messages).strategies == ("aggressive_summarization",)


def test_a_summary_may_come_asynchronously() -> None:
    """And then it needs the asynchronous twin."""

    async def summarize(old: Messages) -> str:
        await asyncio.sleep(0)
        return f"{len(old)} messages"

    messages = conversation(10)
    monitor = ContextMonitor("gpt-4o", max_tokens=4000)

    result = asyncio.run(monitor.acompress(messages, summarize=summarize))
    plain = asyncio.run(monitor.acompress(messages, summarize=lambda old: "short"))

    assert "messages" in result.messages[1]["content"]
    assert plain.messages[1]["content"].endswith("short")
    with pytest.raises(TypeError, match="use acompress"):
        monitor.compress(messages, summarize=summarize)


def test_a_summary_that_fails_stops_nothing() -> None:
    """The conversation is made shorter by other means."""

    def summarize(old: Messages) -> str:
        raise OSError("no model")

    monitor = ContextMonitor("gpt-4o", max_tokens=4000, summarize=summarize)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(faults, "_raises", False)
        result = monitor.compress(conversation(10))

    assert result.strategies[0] == "message_pruning"
    assert result.fits


class Model:
    """Answers like a model of LangChain or LlamaIndex."""

    def __init__(self, answer: object, method: str) -> None:
        self.answer = answer
        self.asked: list[str] = []
        setattr(self, method, self._ask)

    def _ask(self, prompt: str) -> object:
        self.asked.append(prompt)
        return self.answer


class Said:
    def __init__(self, **fields: object) -> None:
        self.__dict__.update(fields)


@pytest.mark.parametrize(
    ("answer", "method"),
    [
        ("In short.", "invoke"),
        (Said(content="In short."), "invoke"),
        (Said(content=[{"type": "text", "text": "In short."}]), "invoke"),
        (Said(text="In short."), "complete"),
        (Said(content=Said(text="In short.")), "complete"),
    ],
)
def test_a_model_summarises_a_transcript(answer: object, method: str) -> None:
    """Whatever its framework calls the method and the answer."""
    model = Model(answer, method)
    monitor = ContextMonitor("gpt-4o", max_tokens=4000)

    result = monitor.compress(conversation(10), summarize=model)

    assert result.messages[1]["content"].endswith("In short.")
    assert "user: Question 0" in model.asked[0]
    assert "search" in model.asked[0]


def test_wrong_use_raises_at_the_call() -> None:
    """Unknown strategies, summaries from nothing, windows of nothing, what is no message."""
    monitor = ContextMonitor("gpt-4o")

    with pytest.raises(ValueError, match="strategy is auto or one of"):
        monitor.compress([], strategy="shrink")
    with pytest.raises(ValueError, match="needs summarize"):
        monitor.compress([], strategy="aggressive_summarization")
    with pytest.raises(ValueError, match="max_tokens must be above 0"):
        ContextMonitor(max_tokens=0)
    with pytest.raises(ValueError, match="threshold must lie"):
        ContextMonitor(threshold=1.2)
    with pytest.raises(TypeError, match="a message has a role or a type"):
        monitor.inspect([object()])
    with pytest.raises(TypeError, match="summarize is a function or a model"):
        monitor.compress(
            conversation(10), target_tokens=100, summarize=5, strategy="aggressive_summarization"
        )


def test_an_unknown_window_is_not_compressed_to_a_guess() -> None:
    """Without a window or a target there is nothing to reach."""
    messages = conversation(5)

    result = ContextMonitor().compress(messages)

    assert (result.messages, result.target_tokens, result.fits) == (messages, None, True)


def test_a_plain_function_for_any_list() -> None:
    """What fits comes back as it was, what is too long compressed."""
    messages = conversation(10)

    assert auto_compress_context(messages, model="gpt-4o") == messages
    shorter = auto_compress_context(messages, model="gpt-4o", max_tokens=3000)
    assert ContextMonitor("gpt-4o").inspect(shorter).tokens < 2200


def test_tools_are_part_of_the_context() -> None:
    """Their definitions are read by the model too."""
    tool = {
        "type": "function",
        "function": {"name": "f", "description": "does", "parameters": {"properties": {}}},
    }
    monitor = ContextMonitor("gpt-4o", max_tokens=1000)

    assert monitor.inspect([], tools=[tool]).tokens > monitor.inspect([]).tokens
    assert monitor.compress(conversation(1), tools=[tool]).tokens_before > 300


def test_langchain_messages_stay_what_they_are() -> None:
    """Types, ids and tool calls survive; a summary is a message of theirs."""
    langchain = pytest.importorskip("langchain_core.messages")
    messages: list[Any] = [langchain.SystemMessage("Answer briefly.")]
    for number in range(8):
        call = {"name": "search", "args": {"q": number}, "id": f"c{number}"}
        messages += [
            langchain.HumanMessage(f"Question {number} " + "why? " * 30, id=f"h{number}"),
            langchain.AIMessage("", tool_calls=[call]),
            langchain.ToolMessage("found " * 200, tool_call_id=f"c{number}"),
            langchain.AIMessage([{"type": "text", "text": "Because. " * 40}]),
        ]
    messages.append(langchain.HumanMessage("And now?"))
    monitor = ContextMonitor("gpt-4o")
    tokens = monitor.inspect(messages).tokens

    pruned = monitor.compress(messages, strategy="message_pruning", target_tokens=tokens * 2 // 3)
    cut = monitor.compress(messages, strategy="smart_truncation", target_tokens=tokens * 2 // 3)
    summed = monitor.compress(
        messages,
        target_tokens=tokens // 3,
        summarize=lambda old: "Talk.",
        strategy="aggressive_summarization",
    )

    for result in (pruned, cut, summed):
        assert_unbroken(messages, result.messages)
        assert result.fits
    assert isinstance(pruned.messages[3], langchain.ToolMessage)
    assert pruned.messages[3].tool_call_id == "c0"
    assert len(messages[3].content) == 1200
    assert isinstance(summed.messages[1], langchain.HumanMessage)
    assert any("left out" in str(message.content) for message in cut.messages)


def test_llamaindex_messages_stay_what_they_are() -> None:
    """Roles are enums, tool calls lie in additional_kwargs, content in blocks."""
    llms = pytest.importorskip("llama_index.core.base.llms.types")
    chat, role = llms.ChatMessage, llms.MessageRole
    messages = [chat(role=role.SYSTEM, content="Answer briefly.")]
    for number in range(8):
        call = {
            "id": f"c{number}",
            "type": "function",
            "function": {"name": "f", "arguments": "{}"},
        }
        messages += [
            chat(role=role.USER, content=f"Question {number} " + "why? " * 30),
            chat(role=role.ASSISTANT, content="", additional_kwargs={"tool_calls": [call]}),
            chat(
                role=role.TOOL,
                content="found " * 200,
                additional_kwargs={"tool_call_id": f"c{number}"},
            ),
            chat(role=role.ASSISTANT, content="Because. " * 40),
        ]
    messages.append(chat(role=role.USER, content="And now?"))
    monitor = ContextMonitor("gpt-4o")
    tokens = monitor.inspect(messages).tokens

    pruned = monitor.compress(messages, strategy="message_pruning", target_tokens=tokens * 2 // 3)
    summed = monitor.compress(
        messages,
        target_tokens=tokens // 3,
        summarize=lambda old: "Talk.",
        strategy="aggressive_summarization",
    )

    for result in (pruned, summed):
        assert_unbroken(messages, result.messages)
        assert result.fits
        assert all(isinstance(message, chat) for message in result.messages)
    assert pruned.messages[3].additional_kwargs == {"tool_call_id": "c0"}
    assert summed.messages[1].role == role.USER
    assert len(messages[3].content) == 1200


def test_anthropic_and_responses_items_keep_their_pairs() -> None:
    """Tool results in a user's message, function calls as items, reasoning before them."""
    anthropic = [
        {"role": "user", "content": "Look it up. " * 50},
        {
            "role": "assistant",
            "content": [{"type": "tool_use", "id": "t1", "name": "f", "input": {}}],
        },
        {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "data " * 300}],
        },
        {"role": "assistant", "content": [{"type": "text", "text": "Done. " * 50}]},
        {"role": "user", "content": "Thanks."},
    ]
    responses = [
        {"role": "user", "content": [{"type": "input_text", "text": "Look it up. " * 50}]},
        {"type": "reasoning", "id": "r1", "summary": [{"type": "summary_text", "text": "Hm."}]},
        {"type": "function_call", "call_id": "k1", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "k1", "output": "data " * 300},
        {"role": "assistant", "content": "Done. " * 50},
        {"role": "user", "content": "Thanks."},
    ]
    monitor = ContextMonitor("gpt-4o")

    for messages in (anthropic, responses):
        for strategy in ("sliding_window", "message_pruning", "smart_truncation"):
            for target in (60, 300, 500):
                result = monitor.compress(messages, strategy=strategy, target_tokens=target)
                assert_unbroken(messages, result.messages)
                assert result.tokens_after <= result.tokens_before
    pruned = monitor.compress(responses, strategy="message_pruning", target_tokens=300)
    assert "left out" in pruned.messages[3]["output"]
    assert "content" not in pruned.messages[2]


def test_tools_without_ids_answer_what_stands_before_them() -> None:
    """The older function calls name no id; they go together all the same."""
    messages = [
        {"role": "user", "content": "Look it up."},
        {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
        {"role": "function", "name": "f", "content": "data " * 300},
        {"role": "function", "name": "f", "content": "more " * 300},
        {"role": "assistant", "content": "Done."},
    ]

    result = ContextMonitor("gpt-4o").compress(
        messages, strategy="sliding_window", target_tokens=50
    )

    assert [m["role"] for m in result.messages] == ["user", "assistant"]


def test_objects_of_your_own_are_shortened_as_copies() -> None:
    """Anything with a role and a content is a message."""

    class Own:
        def __init__(self, role: str, content: object) -> None:
            self.role = role
            self.content = content

    class Block:
        def __init__(self, text: str | None) -> None:
            if text is not None:
                self.text = text

        def __str__(self) -> str:
            return "an image"

    messages = [
        Own("user", "Why? " * 200),
        Own("assistant", [Block("Because"), Block(None), 5]),
        Own("user", "Hm."),
    ]

    result = ContextMonitor("gpt-4o").compress(
        messages, strategy="smart_truncation", target_tokens=150
    )

    assert "left out" in result.messages[0].content
    assert messages[0].content == "Why? " * 200
    assert result.fits


roles = st.sampled_from(["user", "assistant", "tools", "system", "parallel"])


def built(parts: list[tuple[str, int]]) -> Messages:
    """Build a valid conversation from random parts."""
    messages: Messages = []
    for number, (kind, words) in enumerate(parts):
        text = "word " * words
        if kind in ("user", "assistant", "system"):
            messages.append({"role": kind, "content": text})
            continue
        names = [f"{number}a"] if kind == "tools" else [f"{number}a", f"{number}b"]
        calls = [{"id": n, "function": {"name": "f", "arguments": "{}"}} for n in names]
        messages.append({"role": "assistant", "content": None, "tool_calls": calls})
        messages += [{"role": "tool", "tool_call_id": n, "content": text} for n in names]
    return messages


@settings(max_examples=150, deadline=None)
@given(
    parts=st.lists(st.tuples(roles, st.integers(0, 120)), max_size=14),
    strategy=st.sampled_from([*STRATEGIES, "auto"]),
    target=st.integers(1, 1500),
)
def test_no_compression_breaks_a_conversation(
    parts: list[tuple[str, int]], strategy: str, target: int
) -> None:
    """Whatever the conversation, the strategy and the target."""
    messages = built(parts)
    monitor = ContextMonitor("gpt-4o", summarize=lambda old: "In short.")

    result = monitor.compress(messages, strategy=strategy, target_tokens=target)

    assert_unbroken(messages, result.messages)
    assert result.tokens_after == monitor.inspect(result.messages).tokens
    if not result.strategies:
        assert result.messages == messages
    elif "aggressive_summarization" not in result.strategies:
        assert result.tokens_after < result.tokens_before
