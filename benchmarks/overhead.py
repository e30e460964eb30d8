"""
Time that each meter adds to a call of a model that answers at once, and of a real client.

Each meter runs in a process of its own, and the processes take turns, round by round, so that
what else the machine does falls on all of them; all are begun several times, because a process
is faster or slower than its twin by where things lie in memory. Prints the median of the rounds,
in microseconds of processor time a call in all threads, and the median of what each round is above
that of the process without a meter; then how ours compares with the lightest peer, made durable by
the same journal, and with OpenInference.

    python benchmarks/overhead.py [--rounds 12] [--times 3] [METER ...]

It needs, besides this package: langchain-community, langchain-openai, llama-index-core,
opentelemetry-sdk, the OpenInference instrumentors of LangChain and LlamaIndex, and agentsight.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import operator
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

CASES = {
    "invoke": 100,
    "ainvoke": 100,
    "stream of 200 chunks": 3,
    "ChatOpenAI": 20,
    "LlamaIndex chat": 100,
}
"""The cases, and how many calls make a round."""

DURABLE = "UsageMetadataCallbackHandler, journal"
"""It also writes what each call used to a journal as ours does: no price, scope or duration."""

TOLD = {
    "input_tokens": 11,
    "output_tokens": 7,
    "total_tokens": 18,
    "input_token_details": {"cache_read": 4},
}
"""What the model of LangChain says that it used."""

OPEN_INFERENCE = "OpenInference, batch exporter"

OURS = ("agentsight-tokens, callbacks only", "agentsight-tokens")

PROVIDER = "OVERHEAD_PROVIDER"
"""The environment variable with the address of a provider on this machine."""

METERS = (
    "none",
    "UsageMetadataCallbackHandler",
    DURABLE,
    "OpenAICallbackHandler",
    "TokenCountingHandler",
    OPEN_INFERENCE,
    "agentsight",
    *OURS,
    "journal",
)


def switch_on(meter: str) -> Any:
    """Switch a meter on in this process, and return what must be kept."""
    if meter == "UsageMetadataCallbackHandler":
        from langchain_core.callbacks import UsageMetadataCallbackHandler

        return in_every_run(UsageMetadataCallbackHandler())
    if meter == DURABLE:
        return in_every_run(durable())
    if meter == "OpenAICallbackHandler":
        from langchain_community.callbacks.openai_info import OpenAICallbackHandler

        return in_every_run(OpenAICallbackHandler())
    if meter == "TokenCountingHandler":
        from llama_index.core import Settings
        from llama_index.core.callbacks import CallbackManager, TokenCountingHandler

        Settings.callback_manager = CallbackManager([TokenCountingHandler()])
    if meter.startswith("OpenInference"):
        return open_inference()
    if meter == "agentsight":
        import agentsight
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

        agentsight.init(span_exporter=InMemorySpanExporter(), verify_key=False)
        return agentsight.conversation("c").__enter__()
    if meter.startswith("agentsight-tokens"):
        return ours(meter)
    return None


def durable() -> Any:
    from langchain_core.callbacks import UsageMetadataCallbackHandler

    write = journal_write()

    class Durable(UsageMetadataCallbackHandler):
        def on_llm_end(self, response: Any, **kwargs: Any) -> None:
            super().on_llm_end(response, **kwargs)
            message = response.generations[0][0].message
            write(message.response_metadata["model_name"], message.usage_metadata)

    return Durable()


def in_every_run(handler: Any) -> Any:
    from contextvars import ContextVar

    from langchain_core.tracers.context import register_configure_hook

    register_configure_hook(ContextVar("peer", default=handler), inheritable=True)
    return handler


def open_inference() -> Any:
    from openinference.instrumentation.langchain import LangChainInstrumentor
    from openinference.instrumentation.llama_index import LlamaIndexInstrumentor
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

    class Nowhere(SpanExporter):
        def export(self, spans: Any) -> SpanExportResult:
            return SpanExportResult.SUCCESS

    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(Nowhere()))
    for instrumentor in (LangChainInstrumentor(), LlamaIndexInstrumentor()):
        instrumentor.instrument(tracer_provider=provider)
    return provider


def ours(meter: str) -> Any:
    from agentsight_tokens import ConversationTracker, TokenConfig

    os.environ["AGENTSIGHT_WIRE_TAPS"] = "off" if "callbacks" in meter else "on"
    folder = tempfile.mkdtemp()
    return ConversationTracker(
        None,
        "c",
        token_handler="langchain,llamaindex",
        config=TokenConfig(data_dir=folder, exit_flush_seconds=0),
    )


def langchain_model() -> Any:
    from langchain_core.language_models.chat_models import BaseChatModel
    from langchain_core.messages import AIMessage, AIMessageChunk
    from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult

    told = {
        "usage_metadata": TOLD,
        "response_metadata": {"model_name": "gpt-4o-mini", "model_provider": "openai"},
    }

    class Fake(BaseChatModel):
        @property
        def _llm_type(self) -> str:
            return "fake"

        def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kw: Any):
            message = AIMessage("hi", **told)
            return ChatResult(
                generations=[ChatGeneration(message=message)],
                llm_output={"model_name": "gpt-4o-mini"},
            )

        async def _agenerate(self, *args: Any, **kw: Any):
            return self._generate(*args, **kw)

        def _stream(self, messages: Any, stop: Any = None, run_manager: Any = None, **kw: Any):
            for number in range(200):
                message = AIMessageChunk("x", **(told if number == 199 else {}))
                chunk = ChatGenerationChunk(message=message)
                if run_manager:
                    run_manager.on_llm_new_token("x", chunk=chunk)
                yield chunk

    return Fake()


def openai_model() -> Any:
    from langchain_openai import ChatOpenAI

    return ChatOpenAI(model="gpt-4o-mini", api_key="key", base_url=os.environ[PROVIDER])


def llamaindex_model() -> Any:
    from llama_index.core.llms import ChatMessage, ChatResponse, CustomLLM, LLMMetadata
    from llama_index.core.llms.callbacks import llm_chat_callback

    class Fake(CustomLLM):
        @property
        def metadata(self) -> LLMMetadata:
            return LLMMetadata(model_name="gpt-4o-mini")

        @llm_chat_callback()
        def chat(self, messages: Any, **kwargs: Any) -> ChatResponse:
            usage = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
            answer = ChatMessage(role="assistant", content="hi")
            return ChatResponse(message=answer, raw={"model": "gpt-4o-mini", "usage": usage})

        def complete(self, prompt: str, *args: Any, **kwargs: Any) -> Any:
            raise NotImplementedError

        def stream_complete(self, prompt: str, *args: Any, **kwargs: Any) -> Any:
            raise NotImplementedError

    model, said = Fake(), [ChatMessage(role="user", content="x")]
    return lambda: model.chat(said)


def journal_write() -> Callable[[str, Mapping[str, Any]], object]:
    """Return what writes a call's counts to a journal, as a record of its own."""
    import msgspec

    from agentsight_tokens.ids import time_ordered_id
    from agentsight_tokens.journal import Journal
    from agentsight_tokens.usage import TokenUsage, UsageRecord

    journal, encode = Journal(Path(tempfile.mkdtemp())), msgspec.json.Encoder().encode

    def write(model: str, counts: Mapping[str, Any]) -> None:
        usage = TokenUsage(
            input_tokens=counts["input_tokens"],
            output_tokens=counts["output_tokens"],
            total_tokens=counts["total_tokens"],
            cache_read_tokens=counts["input_token_details"]["cache_read"],
        )
        record = UsageRecord(
            id=time_ordered_id(), at=datetime.now(timezone.utc), usage=usage, model=model
        )
        journal.append(1, 1, encode(record))

    return write


def rounds_of(meter: str) -> dict[str, Callable[[int], None]]:
    """Return what makes so many calls, by case."""
    if meter == "journal":
        write = functools.partial(journal_write(), "gpt-4o-mini", TOLD)
        return {"invoke": lambda count: repeat(write, count)}
    kept = switch_on(meter)
    chat = llamaindex_model() if meter != "OpenAICallbackHandler" else None
    if meter == "TokenCountingHandler":
        return {"LlamaIndex chat": lambda count: repeat(chat, count)}
    model, client = langchain_model(), openai_model()

    async def ainvoke(count: int) -> None:
        for _ in range(count):
            await model.ainvoke("x")

    found: dict[str, Callable[[int], None]] = {
        "invoke": lambda count: repeat(lambda: model.invoke("x"), count),
        "ainvoke": lambda count: asyncio.run(ainvoke(count)),
        "stream of 200 chunks": lambda count: repeat(lambda: list(model.stream("x")), count),
        "ChatOpenAI": lambda count: repeat(lambda: client.invoke("[[in=11 out=7]]"), count),
    }
    if "CallbackHandler" not in meter:
        found["LlamaIndex chat"] = lambda count: repeat(chat, count)
    found["kept"] = lambda count: kept
    return found


def repeat(call: Callable[[], object], count: int) -> None:
    for _ in range(count):
        call()


def serve(meter: str) -> None:
    """Make a round for each case that is named on stdin, and print its time a call."""
    warnings.simplefilter("ignore")
    for variable in [v for v in os.environ if v.startswith(("LANGSMITH_", "LANGCHAIN_"))]:
        del os.environ[variable]
    with contextlib.redirect_stdout(sys.stderr):
        rounds = rounds_of(meter)
        for case, count in CASES.items():
            if case in rounds:
                rounds[case](count)
    print("ready", flush=True)
    for line in sys.stdin:
        case = line.strip()
        if case not in rounds:
            print("-", flush=True)
            continue
        began = time.process_time()
        rounds[case](CASES[case])
        print((time.process_time() - began) / CASES[case] * 1e6, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("meters", nargs="*")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--times", type=int, default=3, help="how often all processes are begun")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve)
        return
    from agentsight_tokens.testing import LoopbackProvider

    names = ["none", *(m for m in options.meters or METERS if m != "none")]
    times: dict[tuple[str, str], list[float]] = {}
    with LoopbackProvider() as provider:
        os.environ[PROVIDER] = provider.openai_url
        for _ in range(options.times):
            measure(names, options.rounds, times)
    print_table(names, times)


def measure(names: list[str], rounds: int, times: dict[tuple[str, str], list[float]]) -> None:
    """Begin a process for each meter, let them take turns, and add their times a call."""
    workers = {}
    for name in names:
        workers[name] = subprocess.Popen(
            [sys.executable, __file__, "--serve", name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        if workers[name].stdout.readline() != "ready\n":
            raise SystemExit(f"{name} does not run here; its error stands above")
    for _ in range(rounds):
        for case in CASES:
            for name, worker in workers.items():
                worker.stdin.write(case + "\n")
                worker.stdin.flush()
                answer = worker.stdout.readline().strip()
                if answer != "-":
                    times.setdefault((name, case), []).append(float(answer))
    for worker in workers.values():
        worker.stdin.close()
        worker.wait()


def print_table(names: list[str], times: dict[tuple[str, str], list[float]]) -> None:
    medians = {key: statistics.median(rounds) for key, rounds in times.items()}
    added = {
        (name, case): statistics.median(map(operator.sub, rounds, times["none", case]))
        for (name, case), rounds in times.items()
        if name not in ("none", "journal")
    }
    print("| meter | " + " | ".join(CASES) + " |")
    print("|---|" + "---|" * len(CASES))
    for name in names:
        cells = []
        for case in CASES:
            cell = f"{medians[name, case]:.0f}" if (name, case) in medians else ""
            if (name, case) in added:
                cell += f" (+{added[name, case]:.0f})"
            cells.append(cell)
        print(f"| {name} | " + " | ".join(cells) + " |")
    print()
    for ours in OURS:
        for peer in (DURABLE, OPEN_INFERENCE):
            ratios = [
                f"{case} {added[ours, case] / added[peer, case]:.2f}"
                for case in CASES
                if (ours, case) in added and added.get((peer, case), 0) > 0
            ]
            if ratios:
                print(f"{ours}, as a part of what {peer!r} adds: {', '.join(ratios)}")


if __name__ == "__main__":
    main()
