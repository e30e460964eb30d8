"""`demo`: what it shows, and that it tells when the ledgers differ."""

from __future__ import annotations

import importlib.metadata
import json
import re
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from inline_snapshot import snapshot
from typer.testing import CliRunner, Result

from agentsight_tokens import Scope, TokenUsage
from agentsight_tokens.backend.analytics import UsageReport, usage_by
from agentsight_tokens.backend.store import SQLiteStore
from agentsight_tokens.cli.app import app
from agentsight_tokens.cli.demo.comparison import compared
from agentsight_tokens.cli.demo.script import CONVERSATIONS
from agentsight_tokens.cycle import Cycle
from agentsight_tokens.testing import LoopbackProvider, Reply
from tests.records import AT, call

COMMAND = Path(sys.executable).parent / "agentsight-tokens"
BY_HAND = frozenset({"langchain-core", "llama-index-core"})
EQUAL = "The provider billed 7,719 tokens in 7 calls; the ledger holds 7,719 in 7: equal."


def run(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(app, ["demo", *arguments], env=environment)


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Callable[[frozenset[str]], None]:
    """Hide distributions, as where they are not installed."""
    version = importlib.metadata.version

    def hide(names: frozenset[str]) -> None:
        def find(name: str) -> str:
            if name in names:
                raise importlib.metadata.PackageNotFoundError(name)
            return version(name)

        monkeypatch.setattr(importlib.metadata, "version", find)

    return hide


@pytest.fixture
def provider() -> LoopbackProvider:
    """The provider of one's own, as far as the demo can tell."""
    with LoopbackProvider(keep_alive=False) as running:
        yield running


def live(provider: LoopbackProvider) -> dict[str, str]:
    return {"OPENAI_API_KEY": "sk-mine", "OPENAI_BASE_URL": provider.openai_url}


@pytest.mark.programs
def test_with_the_real_clients() -> None:
    """LangChain and LlamaIndex play it; nothing of theirs litters the output."""
    pytest.importorskip("langchain_openai")
    pytest.importorskip("llama_index.llms.openai")
    pytest.importorskip("llama_index.embeddings.openai")
    done = subprocess.run([COMMAND, "demo"], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")
    told = re.sub(r"(LangChain|LlamaIndex) [\d.]+", r"\1 1.0", done.stdout)
    assert told == snapshot("""\
Three conversations by two users, with the clients of LangChain 1.0 and LlamaIndex 1.0, against a provider on this machine that bills every call in a ledger of its own.

lisbon-trip  ana, LangChain
  chat    Which month is best for Lisbon?       214 in      38 out    $0.000055
  stream  And where do I hear fado?             271 in      64 out    $0.000079
  sent    delivered: 2 calls, 587 tokens, $0.000134

invoice-4711  ben, LlamaIndex
  embed   3 texts                               492 in       0 out    $0.000010
  chat    When is invoice 4711 due?             388 in      21 out    $0.000071
  stream  Write a friendly reminder.            431 in      96 out    $0.000122
  sent    delivered: 3 calls, 1,428 tokens, $0.000203

code-review  ana, LangChain
  chat    Review this function for races.     2,310 in     412 out    $0.009895
  stream  Show me the fix.                    2,744 in     238 out    $0.006360
  sent    delivered: 2 calls, 5,704 tokens, $0.016255

agentsight-tokens report --by conversation
conversation  calls  input  cached  output  total  embedded      cost
code-review       2  5,054   2,304     650  5,704         0  $0.01626
invoice-4711      3    819       0     117    936       492  $0.00020
lisbon-trip       2    485       0     102    587         0  $0.00013
total             7  6,358   2,304     869  7,227       492  $0.01659

agentsight-tokens report --by user
user   calls  input  cached  output  total  embedded      cost
ana        4  5,539   2,304     752  6,291         0  $0.01639
ben        3    819       0     117    936       492  $0.00020
total      7  6,358   2,304     869  7,227       492  $0.01659

The provider billed 7,719 tokens in 7 calls; the ledger holds 7,719 in 7: equal.

Your own calls, in a few lines:

  from agentsight_tokens import ConversationTracker
  tracker = ConversationTracker(token_handler="auto")  # before your calls
  tracker.send_tracked_data()                          # after them

Then: agentsight-tokens report --by conversation
""")


def test_by_hand(without: Callable[[frozenset[str]], None]) -> None:
    """Without a framework, plain requests are recorded, and the way to the frameworks is told."""
    without(BY_HAND)

    done = run()

    assert done.exit_code == 0
    assert EQUAL in done.stdout
    assert "with plain HTTP requests" in done.stdout
    assert "To see LangChain and LlamaIndex counted too:\n\n  pip install" in done.stdout
    assert "tracker.record(response)" in done.stdout
    assert "lisbon-trip  ana, by hand" in done.stdout


@pytest.mark.parametrize(
    ("module", "hidden", "title"),
    [
        ("langchain_openai", "llama-index-core", "LangChain"),
        ("llama_index.embeddings.openai", "langchain-core", "LlamaIndex"),
    ],
)
def test_with_one_framework(
    without: Callable[[frozenset[str]], None], module: str, hidden: str, title: str
) -> None:
    """One framework plays every conversation, embeddings included."""
    pytest.importorskip(module)
    without(frozenset({hidden}))

    done = run()

    assert done.exit_code == 0
    assert EQUAL in done.stdout
    assert done.stdout.count(f", {title}\n") == len(CONVERSATIONS)


def test_ledgers_that_differ() -> None:
    """What was not counted is named, and the exit code is 1."""
    pytest.importorskip("langchain_openai")

    done = run(AGENTSIGHT_CAPTURE_EMBEDDINGS="0")

    assert done.exit_code == 1
    assert "the ledger holds 7,227 in 6: different." in done.stdout
    assert "  invoice-4711: embedding_tokens billed 492, stored 0" in done.stdout


def test_its_data_are_its_own(without: Callable[[frozenset[str]], None], tmp_path: Path) -> None:
    """Neither the user's directory nor the temporary one is left behind or touched."""
    without(BY_HAND)
    temporary = Path(tempfile.gettempdir())
    before = set(temporary.glob("agentsight-demo-*"))

    run(AGENTSIGHT_API_ENDPOINT="http://127.0.0.1:9", AGENTSIGHT_CONVERSATION_ID="mine")

    assert set(temporary.glob("agentsight-demo-*")) == before
    assert not (tmp_path / "data").exists()


def test_a_directory_that_is_kept(
    without: Callable[[frozenset[str]], None], tmp_path: Path
) -> None:
    """Each run adds to a given directory; its report is of that run alone."""
    without(BY_HAND)
    directory = tmp_path / "new" / "kept"

    for _ in range(2):
        done = run("--data-dir", str(directory))
        assert EQUAL in done.stdout
        assert done.stdout.endswith(f"  agentsight-tokens report --data-dir {directory}\n")

    with SQLiteStore(directory / "store.db") as store:
        assert usage_by(store, ["user"]).total.request_count == 14


def test_a_temporary_directory_that_is_kept(
    without: Callable[[frozenset[str]], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--keep leaves the demo's own directory, and says where it is."""
    without(BY_HAND)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    done = run("--keep")

    [kept] = tmp_path.glob("agentsight-demo-*")
    assert f"report --data-dir {kept}\n" in done.stdout
    assert (kept / "store.db").exists()


def test_live_without_a_key() -> None:
    """The message says what is missing and what to do; nothing is called."""
    done = run("--live")

    assert done.exit_code == 2
    assert "OPENAI_API_KEY is not set" in done.stderr
    assert done.stdout == ""


def test_live_by_hand(
    without: Callable[[frozenset[str]], None], provider: LoopbackProvider
) -> None:
    """The user's own provider is called with the cheap model, or the one that is named."""
    without(BY_HAND)

    done = run("--live", **live(provider))

    assert done.exit_code == 0
    assert [call.model for call in provider.ledger] == [
        *["gpt-4o-mini"] * 2,
        "text-embedding-3-small",
        *["gpt-4o-mini"] * 4,
    ]
    assert all(call.headers["authorization"] == "Bearer sk-mine" for call in provider.ledger)
    assert "compare with the usage page of your account" in done.stdout
    provider.clear()
    run("--live", "--model", "my-model", **live(provider))
    assert {call.model for call in provider.ledger} == {"my-model", "text-embedding-3-small"}


def test_live_with_the_real_clients(provider: LoopbackProvider) -> None:
    """The frameworks' clients call the user's own provider too."""
    pytest.importorskip("langchain_openai")
    pytest.importorskip("llama_index.embeddings.openai")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # connections of the clients' own
        done = run("--live", **live(provider))

    assert done.exit_code == 0
    assert len(provider.ledger) == 7


def test_a_provider_that_refuses(
    without: Callable[[frozenset[str]], None], provider: LoopbackProvider
) -> None:
    """A call that fails ends the demo with one line and exit code 1."""
    without(BY_HAND)
    provider.default_reply = Reply(status=401)

    done = run("--live", **live(provider))

    assert done.exit_code == 1
    assert (
        done.stderr
        == "error: the call of gpt-4o-mini failed: HTTPError: HTTP Error 401: Unauthorized\n"
    )


def test_a_model_without_a_price(without: Callable[[frozenset[str]], None]) -> None:
    """Another model than the script's may have no price; that is said, not guessed."""
    without(BY_HAND)

    done = run("--model", "nobody-knows-it")

    assert EQUAL in done.stdout
    assert "unpriced" in done.stdout


def test_the_waiting_is_shown_on_terminals(
    without: Callable[[frozenset[str]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where somebody watches, what goes on is shown on stderr."""
    without(BY_HAND)

    done = run(FORCE_COLOR="1", TERM="xterm", COLUMNS="80")

    assert "Which month is best for Lisbon?" in done.stderr
    lines = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout).splitlines()
    assert max(map(len, lines)) <= 80


def test_every_counter_is_compared(tmp_path: Path, provider: LoopbackProvider) -> None:
    """A difference in any counter of any conversation is found, on either side."""
    import urllib.request

    body = {
        "model": "gpt-4o",
        "user": "a",
        "messages": [{"role": "user", "content": "[[in=11 out=7 cached=4]]"}],
    }
    request = urllib.request.Request(
        f"{provider.openai_url}/chat/completions", data=json.dumps(body).encode()
    )
    urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request).close()
    provider.settle()

    def stored(*usages: tuple[str, TokenUsage]) -> UsageReport:
        records = [call(1, usage=u, scope=Scope(conversation_id=name)) for name, u in usages]
        with SQLiteStore(Path(":memory:")) as store:
            store.ingest(
                [
                    Cycle.of([r], key=r.id, conversation_id="c", sealed_by="send", sealed_at=AT)
                    for r in records
                ]
            )
            return usage_by(store, ["conversation"])

    right = TokenUsage(input_tokens=11, output_tokens=7, cache_read_tokens=4)
    wrong = TokenUsage(input_tokens=11, output_tokens=7)

    assert compared(provider, stored(("a", right))).differences == ()
    assert compared(provider, stored(("a", wrong))).differences == (
        "a: cache_read_tokens billed 4, stored 0",
    )
    assert compared(provider, stored()).differences[-1] == "calls billed 1, stored 0"
    assert compared(provider, stored(("a", right), ("b", wrong))).differences[0] == (
        "b: input_tokens billed 0, stored 11"
    )
