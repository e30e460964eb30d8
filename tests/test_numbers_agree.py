"""One run of real clients: whoever is asked afterwards, the numbers are the provider's."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import anthropic
import openai
import pytest
import urllib3
from typer.testing import CliRunner

from agentsight_tokens import ConversationTracker, CostEstimator, TokenUsage
from agentsight_tokens.backend.analytics import (
    conversations,
    every_call,
    speed,
    top_spenders,
    trend,
    usage_by,
)
from agentsight_tokens.backend.store import SQLiteStore
from agentsight_tokens.backend.store.sqlite import STORE_FILE
from agentsight_tokens.cli.app import app
from agentsight_tokens.rows import usage_row, written
from agentsight_tokens.summary import UsageSummary
from agentsight_tokens.testing import LoopbackProvider
from tests.server_process import ServerProcess

KEY = "secret"
COUNTERS = (
    "input_tokens",
    "output_tokens",
    "total_tokens",
    "embedding_tokens",
    "cache_read_tokens",
    "cache_creation_tokens",
    "reasoning_tokens",
)
Figures = dict[str, Any]


class Run:
    """A server that has received the calls of some clients, and the provider that billed them."""

    def __init__(self, server: ServerProcess, directory: Path, billed: Figures) -> None:
        self._server = server
        self.directory = directory
        self.billed = billed

    def text(self, path: str, **query: str) -> str:
        answer = urllib3.request(
            "GET",
            f"{self._server.url}{path}?{urlencode(query)}",
            headers={"Authorization": f"Bearer {KEY}"},
        )
        assert answer.status == 200, answer.data
        return answer.data.decode()

    def get(self, path: str, **query: str) -> Any:
        return json.loads(self.text(path, **query))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Two SDKs, plain and streamed, with caches, reasoning and embeddings, in conversations."""
    directory = tmp_path_factory.mktemp("agree")
    with LoopbackProvider() as provider, ServerProcess(directory / "server", key=KEY) as server:
        with (
            ConversationTracker(
                KEY,
                endpoint=server.url,
                token_handler="openai,anthropic",
            ) as tracker,
            openai.OpenAI(base_url=provider.openai_url, api_key="k") as of_openai,
            anthropic.Anthropic(base_url=provider.anthropic_url, api_key="k") as of_anthropic,
        ):
            for number in range(3):
                with tracker.conversation(f"c{number}", user_id=f"u{number % 2}", feature="chat"):
                    _talk(of_openai, of_anthropic)
                tracker.send_tracked_data()
            assert tracker.flush(30)
        yield Run(server, directory / "server", _figures_of_bill(provider))


def _talk(of_openai: openai.OpenAI, of_anthropic: anthropic.Anthropic) -> None:
    asked: Any = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]}
    of_openai.chat.completions.create(**asked)
    stream = of_openai.chat.completions.create(
        **asked, stream=True, stream_options={"include_usage": True}
    )
    for _ in stream:
        pass
    of_openai.embeddings.create(model="text-embedding-3-small", input=["some", "texts"])
    told: Any = {
        "model": "claude-sonnet-4-5",
        "max_tokens": 99,
        "messages": [{"role": "user", "content": "hi"}],
    }
    of_anthropic.messages.create(**told)
    with of_anthropic.messages.stream(**told) as told_stream:
        told_stream.until_done()


def _figures_of_bill(provider: LoopbackProvider) -> Figures:
    """Return what the provider billed, at the catalog's prices."""
    prices = CostEstimator()
    cost = sum(
        (
            prices.estimate(model=each.model, usage=each.usage).total_cost
            for each in provider.ledger
        ),
        Decimal(0),
    )
    usage: TokenUsage = provider.billed()
    counts = {name: getattr(usage, name) for name in COUNTERS}
    return {**counts, "calls": len(provider.ledger), "cost_usd": f"{cost:f}"}


def figures(rows: Iterable[Mapping[str, Any]]) -> Figures:
    """Return the sums of rows of usage, or of calls, each of which is one."""
    found: Figures = dict.fromkeys((*COUNTERS, "calls"), 0)
    cost = Decimal(0)
    for row in rows:
        for name in COUNTERS:
            found[name] += int(row[name])
        found["calls"] += int(row.get("calls", 1))
        cost += Decimal(str(row["cost_usd"]))
    return {**found, "cost_usd": f"{cost.normalize():f}"}


def test_the_run_used_everything(run: Run) -> None:
    """The bill has what the sums can go wrong with."""
    assert run.billed["calls"] == 15
    assert all(run.billed[name] for name in COUNTERS if name != "cache_creation_tokens")
    assert Decimal(run.billed["cost_usd"]) > 0


@pytest.mark.parametrize("by", ["model", "conversation", "user", "day", "provider", "status"])
def test_the_api_agrees(run: Run, by: str) -> None:
    """Whatever rows stand for, they add up to the bill, and so does the total."""
    body = run.get("/v1/usage", by=by)

    assert figures(body["rows"]) == figures([body["total"]]) == run.billed


def test_every_other_answer_agrees(run: Run) -> None:
    """Trends, conversations, calls, speed and spenders add up to the bill as well."""
    for period in ("hour", "day", "week", "month"):
        trend_body = run.get("/v1/trend", period=period, timezone="Asia/Kathmandu")
        assert figures(point["usage"] for point in trend_body["points"]) == run.billed
    pages = run.get("/v1/conversations", order="costliest", limit="2")
    more = run.get("/v1/conversations", order="costliest", limit="2", cursor=pages["next_cursor"])
    rows = [row["usage"] for row in pages["rows"] + more["rows"]]
    assert figures(rows) == run.billed
    cycles = [
        cycle["usage"]
        for number in range(3)
        for cycle in run.get(f"/v1/conversations/c{number}")["cycles"]
    ]
    assert figures(cycles) == run.billed
    assert figures(run.get("/v1/calls")["rows"]) == run.billed
    assert figures(g["usage"] for g in run.get("/v1/speed", by="model")["groups"]) == run.billed
    assert figures(s["usage"] for s in run.get("/v1/top", by="user")["spenders"]) == run.billed
    assert figures(m["usage"] for m in run.get("/v1/cache")["models"]) == run.billed
    assert figures([run.get("/v1/forecast")["so_far"]]) == run.billed


def test_exports_agree(run: Run) -> None:
    """Each file of all calls adds up to the bill."""
    of_csv = csv.DictReader(io.StringIO(run.text("/v1/export", format="csv")))
    assert figures(of_csv) == run.billed
    lines = run.text("/v1/export", format="jsonl").splitlines()
    assert figures(map(json.loads, lines)) == run.billed


def test_the_command_line_agrees(run: Run) -> None:
    """`report`, `calls` and `export` read the server's file, and print the bill."""
    there = f"sqlite:///{run.directory / STORE_FILE}"

    def printed(*arguments: str) -> str:
        done = CliRunner().invoke(app, [*arguments, "--database-url", there])
        assert done.exit_code == 0, done.output
        return done.stdout

    for by in ("conversation", "model", "user,day"):
        assert figures(json.loads(printed("report", "--by", by, "--format", "json"))) == run.billed
    assert figures(json.loads(printed("calls", "--format", "json", "-n", "99"))) == run.billed
    assert (
        figures(map(json.loads, printed("export", "--format", "jsonl").splitlines())) == run.billed
    )
    shown = json.loads(printed("insights", "--format", "json"))
    assert figures([shown["trend"]["total"]]) == run.billed


def test_the_functions_agree(run: Run) -> None:
    """The analytics themselves, over the server's store, say what the bill says."""

    def summed(usages: Iterable[UsageSummary]) -> Figures:
        return figures(written(usage_row(usage)) for usage in usages)

    with SQLiteStore(run.directory / STORE_FILE) as store:
        assert summed([usage_by(store, ()).total]) == run.billed
        assert summed(point.usage for point in trend(store).points) == run.billed
        assert summed(row.usage for row in conversations(store).rows) == run.billed
        assert summed([speed(store).total.usage]) == run.billed
        assert summed(each.usage for each in top_spenders(store, "model").spenders) == run.billed
        assert summed([UsageSummary.of_calls(every_call(store))]) == run.billed
