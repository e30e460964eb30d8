"""The examples: each is started as its reader would, and counts what the provider billed."""

from __future__ import annotations

import json
import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentsight_tokens.testing import LoopbackProvider, LoopbackRequest, Reply, ToolCall
from tests.budget_kit import RedisServer, running_redis
from tests.example_kit import (
    COMMANDS,
    EXAMPLES,
    ROOT,
    Stage,
    ask,
    by_label,
    by_model,
    lambda_service,
    listens,
)
from tests.faults.hosts import eventually
from tests.ports import free_port

__all__ = ["running_redis"]

pytestmark = pytest.mark.programs


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with LoopbackProvider() as provider:
        yield Stage(provider, tmp_path / "data", tmp_path)


def test_the_openai_script(stage: Stage) -> None:
    """It prints what was billed, and the report agrees."""
    questions = ("[[label=sky in=21 out=9 cached=8]] Why?", "[[label=sky in=40 out=11]] And now?")

    printed = stage.run(sys.executable, EXAMPLES / "openai_script.py", *questions)

    assert "2 calls, 81 tokens, $0.00" in printed
    assert stage.reported() == stage.billed(by_label)
    assert stage.billed(by_label)["sky"]["input_tokens"] == 61


def test_the_chat_server(stage: Stage) -> None:
    """Three sessions stream at once; each has what its own answers used, sent or not."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/sessions/"
    told: dict[str, str] = {}

    def talk(session: str, number: int) -> None:
        for turn in range(3):
            words = f"in={20 * number + turn} out={number} chunks=4 chunk_delay=0.01 text=Hi!"
            text = f"[[label={session} {words}]]"
            told[session] = ask(url + session, json.dumps({"text": text}).encode())

    command = (COMMANDS / "uvicorn", "fastapi_chat:app", "--port", str(port))
    with stage.running(*command):
        assert eventually(lambda: listens(port), 20)
        talks = [threading.Thread(target=talk, args=(f"session-{n}", n + 1)) for n in range(3)]
        for each in talks:
            each.start()
        for each in talks:
            each.join()
        stage.provider.settle()
        used = json.loads(ask(url + "session-1"))
        ended = json.loads(ask(url + "session-0", method="DELETE"))

    billed = stage.billed(by_label)
    assert set(told.values()) == {"Hi!"}
    assert used["calls"] == 3
    assert used["tokens"] == billed["session-1"]["input_tokens"] + 6
    assert ended == {"status": "queued"}
    assert stage.reported() == billed
    assert [billed[f"session-{n}"]["input_tokens"] for n in range(3)] == [63, 123, 183]


def test_the_langgraph_agent(stage: Stage) -> None:
    """Its threads are the conversations, the call of the tool's result among them."""
    stage.provider.respond = answer_of_the_desk

    printed = stage.run(sys.executable, EXAMPLES / "langgraph_agent.py")

    assert "ana-1: 3 calls" in printed
    assert "ben-1: 1 calls" in printed
    assert stage.reported() == stage.billed(by_label)
    assert set(stage.reported("agent")) == {"desk"}


def answer_of_the_desk(request: LoopbackRequest) -> Reply:
    """Look up a parcel when asked for one; bill by the length of what was read."""
    read = len(json.dumps(request.body["messages"])) // 4
    label = "ben-1" if "Ben" in request.text else "ana-1"
    if "parcel 7" in request.text and not request.has_tool_result:
        call = ToolCall("where_is", {"parcel": 7})
        return Reply(input_tokens=read, output_tokens=15, tool_calls=(call,), label=label)
    return Reply(input_tokens=read, output_tokens=9, text="On its way.", label=label)


def test_the_llamaindex_rag(stage: Stage) -> None:
    """Embeddings of the documents and of the questions are where they belong."""
    stage.provider.respond = answer_from_the_handbook

    printed = stage.run(sys.executable, EXAMPLES / "llamaindex_rag.py")

    assert "indexing: 60 tokens embedded, 0 others" in printed
    assert "answering: 14 tokens embedded, 214 others" in printed
    assert stage.reported() == stage.billed(by_label)


def answer_from_the_handbook(request: LoopbackRequest) -> Reply:
    if len(request.items) > 1:
        return Reply(embedding_tokens=20, label="handbook")
    label = "question-2" if "cup" in request.text else "question-1"
    return Reply(embedding_tokens=7, input_tokens=93, output_tokens=14, label=label)


def test_the_litellm_router(stage: Stage) -> None:
    """A model that fails costs nothing, the spare one is counted once."""
    stage.provider.respond = answer_of_the_spare

    printed = stage.run(
        sys.executable, EXAMPLES / "litellm_router.py", LITELLM_LOCAL_MODEL_COST_MAP="True"
    )

    assert "gpt-4o-mini: 1 calls, 30 tokens" in printed
    assert "gpt-4o: 1 calls, 30 tokens" in printed
    assert stage.reported("model", "--status", "ok") == stage.billed(by_model)
    assert stage.provider.requests == 3


def answer_of_the_spare(request: LoopbackRequest) -> Reply:
    """Fail the first question on the best model, and answer everything else."""
    if request.model == "gpt-4o" and "parcel" in request.text:
        return Reply(status=503)
    return Reply(input_tokens=21, output_tokens=9, label="support-42")


def test_under_gunicorn(stage: Stage) -> None:
    """Forked workers share the tracker of their parent, and none counts for another."""
    port = free_port()
    workers = ("--workers", "2", "--preload", "--no-control-socket", "--graceful-timeout", "5")
    command = (COMMANDS / "gunicorn", *workers, "--bind", f"127.0.0.1:{port}", "gunicorn_app:app")
    with stage.running(*command):
        assert eventually(lambda: listens(port), 20)
        for number in range(12):
            name = f"c{number % 3}"
            question = f"[[label={name} in={30 + number} out={number}]]"
            assert ask(f"http://127.0.0.1:{port}/{name}", question.encode()) == "ok"

    assert stage.reported() == stage.billed(by_label)
    assert stage.billed(by_label)["c0"]["calls"] == 4


@pytest.mark.skipif(sys.platform != "linux", reason="AWS's runtime is built for Linux alone")
def test_on_aws_lambda(stage: Stage) -> None:
    """Under AWS's own runtime each invocation is delivered to the server before it answers."""
    port = free_port()
    server = stage.folder / "server"
    server.mkdir()
    key = "a-key-of-twenty-characters"
    serving = (COMMANDS / "agentsight-tokens", "serve", "--port", str(port))
    at_server = {"AGENTSIGHT_DATA_DIR": str(server), "AGENTSIGHT_API_KEY": key}
    with lambda_service() as service, stage.running(*serving, **at_server):
        assert eventually(lambda: listens(port), 20)
        with stage.running(
            *(sys.executable, "-m", "awslambdaric", "aws_lambda.handler"),
            AWS_LAMBDA_RUNTIME_API=service.address,
            AGENTSIGHT_API_ENDPOINT=f"http://127.0.0.1:{port}",
            AGENTSIGHT_API_KEY=key,
        ):
            answers = []
            for number in range(4):
                name = f"s{number % 2}"
                question = f"[[label={name} in={50 + number} out={number}]]"
                answers.append(service.invoke({"session": name, "question": question}))

    assert answers == [{"answer": "ok", "tokens": "delivered"}] * 4
    assert stage.reported(data=server) == stage.billed(by_label)
    assert stage.billed(by_label)["s1"]["calls"] == 2


def test_the_celery_worker(stage: Stage) -> None:
    """Tasks count in the conversation that they were given, in whichever process."""
    mails = [(f"mail-{n}", f"[[label=mail-{n} in={40 + n} out=6]]") for n in range(2)]
    messages = stage.folder / "data_out"
    messages.mkdir()
    (stage.folder / "data_in").symlink_to(messages)  # what is sent is what is received

    work_off(stage, mails, "filesystem://")

    assert stage.reported() == stage.billed(by_label)


def test_the_celery_worker_behind_redis(stage: Stage, running_redis: RedisServer) -> None:
    """The same, with the broker that most have."""
    mails = [(f"mail-{n}", f"[[label=mail-{n} in={40 + n} out=6]]") for n in range(2)]

    work_off(stage, mails, running_redis.url)

    assert stage.reported() == stage.billed(by_label)


def work_off(stage: Stage, mails: list[tuple[str, str]], broker: str) -> None:
    """Queue mails, and let a worker of two processes summarise them."""
    for mail in mails:
        stage.run(sys.executable, EXAMPLES / "celery_worker.py", *mail, CELERY_BROKER_URL=broker)
    worker = (COMMANDS / "celery", "--app", "celery_worker", "worker", "--concurrency", "2")
    with stage.running(*worker, CELERY_BROKER_URL=broker):
        assert eventually(lambda: len(stage.provider.ledger) == len(mails), 30)


def test_every_example_is_listed_and_tested() -> None:
    """The index names every example, and this file starts it."""
    index = (EXAMPLES / "README.md").read_text()
    here = Path(__file__).read_text()

    for example in EXAMPLES.glob("*.py"):
        assert f"({example.name})" in index
        assert example.stem in here
    for target in re.findall(r"\]\(((?!http)[^)#]+)\)", index):
        assert (EXAMPLES / target).exists(), target


@pytest.mark.parametrize("name", ["gunicorn_app", "aws_lambda"])
def test_the_page_on_delivery_shows_the_example(name: str) -> None:
    """The recipe of the page is the example's code, whole."""
    code = (EXAMPLES / f"{name}.py").read_text().split('"""\n', 2)[2].lstrip()
    page = (ROOT / "docs" / "delivery.md").read_text()

    assert f"```python\n{code}```" in page
