"""Forks, takeovers, frozen processes, wrong clocks, and how a program ends."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agentsight_tokens.testing import LoopbackProvider, Reply
from tests.faults.backend import Backend
from tests.faults.hosts import Hosts, SharedCounts, eventually, log_of
from tests.ports import free_port

PREFORK = """
import os, sys, threading, time
from pathlib import Path
from agentsight_tokens import ConversationTracker
from tests.faults.hosts import SharedCounts

workers, calls = int(sys.argv[2]), int(sys.argv[3])
cells = SharedCounts(Path(sys.argv[1])).cells
tracker = ConversationTracker()
stop = threading.Event()

def work(cell, calls):
    with tracker.conversation(f"c{cell}"):
        while calls and not stop.is_set():
            tracker.track_token_usage(1)
            cells[cell] += 1
            calls -= 1
            if calls % 50 == 0:
                tracker.send_tracked_data()
            if cell < 4:
                time.sleep(0.0005)

# Threads of the parent are in the middle of a call when it forks.
parents = [threading.Thread(target=work, args=(cell, 10**9)) for cell in range(4)]
for thread in parents:
    thread.start()
children = []
for worker in range(workers):
    time.sleep(0.02)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            assert tracker.get_usage().request_count == 0
            threads = [
                threading.Thread(target=work, args=(4 + 2 * worker + n, calls)) for n in range(2)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert tracker.flush(60)
            tracker.close()
            code = 0
        finally:
            os._exit(code)
    children.append(pid)
codes = [os.waitpid(pid, 0)[1] for pid in children]
stop.set()
for thread in parents:
    thread.join()
assert codes == [0] * workers, codes
"""


@pytest.mark.timeout(300)
def test_prefork_with_threads_in_the_middle_of_a_call(
    tmp_path: Path, hosts: Hosts, backend: Backend, full: bool, figure: Callable[[str], None]
) -> None:
    """Parent and children count what is theirs; the sums are exact."""
    rounds, calls = (10, 2000) if full else (2, 200)
    total = 0
    for number in range(rounds):
        counts = SharedCounts(tmp_path / f"counts-{number}")
        before = {name: calls for name, (calls, _) in backend.sums().items()}
        hosts.run(PREFORK, counts.path, 4, calls, AGENTSIGHT_API_ENDPOINT=backend.url)
        hosts.recover(AGENTSIGHT_API_ENDPOINT=backend.url)
        after = {name: calls for name, (calls, _) in backend.sums().items()}
        assert {
            f"c{cell}": after.get(f"c{cell}", 0) - before.get(f"c{cell}", 0) for cell in range(12)
        } == {f"c{cell}": counts.cells[cell] for cell in range(12)}
        total += counts.total()

    figure(
        f"prefork x4 with threads in a call, {rounds} times: {backend.calls():,} stored of "
        f"{total:,}, {backend.redelivered} delivered twice"
    )
    assert backend.calls() == backend.tokens() == len(backend.seen) == total


EXAMPLES = Path(__file__).parents[2] / "examples"

TELLING_WHO_ANSWERS = """
import os
counting = app

def app(environ, start_response):
    counting(environ, start_response)
    return [str(os.getpid()).encode()]
"""


@pytest.fixture
def provider() -> Iterator[LoopbackProvider]:
    """A provider whose every answer bills 3 and 4 tokens."""
    reply = Reply(input_tokens=3, output_tokens=4)
    with LoopbackProvider(default_reply=reply) as provider:
        yield provider


@pytest.mark.timeout(120)
@pytest.mark.parametrize("preload", [True, False])
def test_gunicorn_with_four_workers(
    tmp_path: Path,
    hosts: Hosts,
    backend: Backend,
    provider: LoopbackProvider,
    full: bool,
    figure: Callable[[str], None],
    preload: bool,
) -> None:
    """The example counts each request once, across workers that are killed."""
    import urllib.request

    example = (EXAMPLES / "gunicorn_app.py").read_text()
    (tmp_path / "recipe.py").write_text(example + TELLING_WHO_ANSWERS)
    port = free_port()
    log = (tmp_path / "gunicorn.log").open("w")
    server = subprocess.Popen(
        [
            *(sys.executable, "-m", "gunicorn", "--workers", "4", "--bind", f"127.0.0.1:{port}"),
            *("--no-control-socket", "--graceful-timeout", "5", "--chdir", str(tmp_path)),
            *(["--preload"] if preload else []),
            "recipe:app",
        ],
        stderr=log,
        env={
            **os.environ,
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "AGENTSIGHT_DATA_DIR": str(hosts.data),
            "AGENTSIGHT_API_ENDPOINT": backend.url,
            "OPENAI_API_KEY": "k",
            "OPENAI_BASE_URL": provider.openai_url,
        },
    )
    log.close()
    pids = set()

    def get(path: str) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=10) as answer:
                pids.add(int(answer.read()))
        except OSError:
            return False
        return True

    try:
        assert eventually(lambda: get("first"), 60)
        requests = 400 if full else 80
        done = sum(get(f"c{number % 5}") for number in range(requests // 2))
        os.kill(next(iter(pids)), signal.SIGKILL)
        time.sleep(0.5)
        done += sum(get(f"c{number % 5}") for number in range(requests // 2))
    finally:
        server.terminate()
        server.wait(timeout=30)
    hosts.recover(AGENTSIGHT_API_ENDPOINT=backend.url)
    found = {name: calls for name, (calls, _) in backend.sums().items()}
    counted = sum(calls for name, calls in found.items() if name != "first")

    figure(
        f"gunicorn, 4 workers{', --preload' if preload else ''}, one killed: {len(pids)} answered "
        f"{done} requests, {counted} stored"
    )
    assert done <= counted <= requests
    assert counted - done <= requests - done
    assert backend.tokens() == 3 * backend.calls()


LEADER = """
import sys, time
from agentsight_tokens import ConversationTracker
tracker = ConversationTracker(conversation_id=sys.argv[1])
tracker.track_token_usage(1)
print(tracker.send_tracked_data(wait=20).status, flush=True)
for line in sys.stdin:
    tracker.track_token_usage(1)
    began = time.monotonic()
    status = tracker.send_tracked_data(wait=20).status
    print(status, time.monotonic() - began, flush=True)
"""


def test_a_killed_leader_is_followed_at_once(
    hosts: Hosts, backend: Backend, full: bool, figure: Callable[[str], None]
) -> None:
    """Another process delivers in less than a second, and finishes the dead one's work."""
    slowest = 0.0
    leader = hosts.start(LEADER, "leader", AGENTSIGHT_API_ENDPOINT=backend.url)
    assert leader.stdout
    assert leader.stdout.readline() == "delivered\n"
    for number in range(10 if full else 3):
        follower = hosts.start(LEADER, f"c{number}", AGENTSIGHT_API_ENDPOINT=backend.url)
        assert follower.stdin
        assert follower.stdout
        assert follower.stdout.readline() == "delivered\n"
        leader.kill()
        leader.wait()
        follower.stdin.write("\n")
        follower.stdin.flush()
        status, seconds = follower.stdout.readline().split()
        assert status == "delivered"
        slowest = max(slowest, float(seconds))
        leader = follower

    figure(f"leader killed: another has delivered after {slowest:.2f} s at most")
    assert slowest < 1


@pytest.mark.timeout(120)
def test_a_frozen_process_loses_nothing(
    tmp_path: Path, hosts: Hosts, backend: Backend, full: bool, figure: Callable[[str], None]
) -> None:
    """SIGSTOP in the middle of deliveries, SIGCONT later; others go on counting meanwhile."""
    seconds = 15 if full else 3
    code = """
import sys, time
from pathlib import Path
from agentsight_tokens import ConversationTracker
from tests.faults.hosts import SharedCounts
cells = SharedCounts(Path(sys.argv[1])).cells
cell = int(sys.argv[2])
tracker = ConversationTracker(conversation_id=f"c{cell}")
slowest = 0.0
while not cells[10]:
    began = time.monotonic()
    tracker.track_token_usage(1)
    slowest = max(slowest, time.monotonic() - began) if cells[cell] > 10 else 0
    cells[cell] += 1
    if cells[cell] % 20 == 0:
        tracker.send_tracked_data()
    time.sleep(0.002)
print(slowest)
assert tracker.flush(60)
tracker.close()
"""
    counts = SharedCounts(tmp_path / "counts")
    environment = {"AGENTSIGHT_API_ENDPOINT": backend.url}
    frozen = hosts.start(code, counts.path, 0, **environment)
    assert eventually(lambda: backend.calls() > 40)
    other = hosts.start(code, counts.path, 1, **environment)
    assert eventually(lambda: counts.cells[1] > 40)
    frozen.send_signal(signal.SIGSTOP)
    before = counts.cells[1]
    time.sleep(seconds)
    meanwhile = counts.cells[1] - before
    frozen.send_signal(signal.SIGCONT)
    time.sleep(0.5)
    counts.cells[10] = 1
    told, _ = other.communicate(timeout=90)
    frozen.communicate(timeout=90)
    assert (frozen.returncode, other.returncode) == (0, 0), log_of(frozen) + log_of(other)
    counts.cells[10] = 0

    figure(
        f"frozen for {seconds} s: another process recorded {meanwhile:,} calls meanwhile (slowest "
        f"{float(told) * 1000:.1f} ms), {counts.total() - backend.calls()} lost"
    )
    assert backend.calls() == backend.tokens() == counts.total()
    assert meanwhile > 100 * seconds


CLOCK = """
import json, sys, time
from agentsight_tokens import ConversationTracker
jump = float(sys.argv[1])

def shift(seconds):
    # Where libfaketime is not installed: every clock of Python that tells the time of day.
    import datetime
    real_time, real_ns, real_datetime = time.time, time.time_ns, datetime.datetime
    class Shifted(real_datetime):
        @classmethod
        def now(cls, tz=None):
            return real_datetime.now(tz) + datetime.timedelta(seconds=seconds)
        fromisoformat = staticmethod(real_datetime.fromisoformat)
    time.time = lambda: real_time() + seconds
    time.time_ns = lambda: real_ns() + int(seconds * 1e9)
    for module in list(sys.modules.values()):
        if getattr(module, "datetime", None) is real_datetime:
            module.datetime = Shifted

tracker = ConversationTracker(conversation_id="c")
for number in range(3):
    tracker.track_token_usage(1)
    assert tracker.send_tracked_data(wait=20).status == "delivered"
print("ready", flush=True)
sys.stdin.readline()
if jump:
    shift(jump)
began = time.monotonic()
for number in range(5):
    tracker.track_token_usage(1)
    tracker.send_tracked_data()
print("jumped", time.time(), flush=True)
sys.stdin.readline()
assert tracker.flush(60)
print(json.dumps(time.monotonic() - began), flush=True)
tracker.close()
"""
FAKETIME = "faketime/libfaketimeMT.so.1"


@pytest.mark.parametrize("hours", [1, -1])
@pytest.mark.parametrize("by", ["libfaketime", "Python's clocks"])
def test_a_clock_that_jumps(
    tmp_path: Path,
    hosts: Hosts,
    backend: Backend,
    figure: Callable[[str], None],
    hours: int,
    by: str,
) -> None:
    """No delivery stalls, and no retry comes early: only the monotonic clock counts."""
    environment: dict[str, object] = {"AGENTSIGHT_API_ENDPOINT": backend.url}
    offset = tmp_path / "offset"
    offset.write_text("+0\n")
    if by == "libfaketime":
        found = [*Path("/usr/lib").glob(FAKETIME), *Path("/usr/lib").glob(f"*/{FAKETIME}")]
        assert found, "libfaketime is not installed: apt-get install libfaketime"
        environment |= {
            "LD_PRELOAD": found[0],
            "FAKETIME_TIMESTAMP_FILE": offset,
            "FAKETIME_NO_CACHE": 1,
            "FAKETIME_DONT_FAKE_MONOTONIC": 1,
        }
    host = hosts.start(CLOCK, 0 if by == "libfaketime" else hours * 3600, **environment)
    assert host.stdin
    assert host.stdout
    assert host.stdout.readline() == "ready\n", log_of(host)
    backend.status, backend.headers = 503, {"Retry-After": "1"}
    offset.write_text(f"{hours * 3600:+}\n")
    host.stdin.write("\n")
    host.stdin.flush()
    jumped = float(host.stdout.readline().split()[1]) - time.time()
    first = len(backend.times)
    assert eventually(lambda: len(backend.times) >= first + 3)
    gaps = [b - a for a, b in zip(backend.times[-3:], backend.times[-2:], strict=False)]
    backend.status = 200
    back = time.monotonic()
    host.stdin.write("\n")
    host.stdin.flush()
    host.stdout.readline()
    drained = time.monotonic() - back
    host.communicate(timeout=30)

    figure(
        f"clock {jumped:+,.0f} s ({by}): retries after {min(gaps):.2f} s at least, drained "
        f"{drained:.2f} s after the backend was back, {8 - backend.calls()} of 8 lost"
    )
    assert abs(jumped - hours * 3600) < 60
    assert min(gaps) >= 0.9
    assert drained < 5
    assert backend.calls() == backend.tokens() == 8


@pytest.mark.parametrize(
    ("backend_is", "conversations"), [("up", 1), ("down", 1), ("hanging", 1), ("down", 5_000)]
)
def test_a_program_ends_in_time(
    hosts: Hosts,
    backend: Backend,
    figure: Callable[[str], None],
    full: bool,
    backend_is: str,
    conversations: int,
) -> None:
    """The exit waits for at most two seconds; what is left waits on disk."""
    if full and conversations > 1:
        conversations = 40_000  # more than can be sealed in that time
    if backend_is == "down":
        backend.stop()
    elif backend_is == "hanging":
        backend.hangs.set()
    told = hosts.run(
        "import atexit, sys, time\n"
        "def end():\n"
        "    print(time.monotonic() - began)\n"
        "atexit.register(end)\n"  # registered first, so called last
        "from agentsight_tokens import ConversationTracker\n"
        "tracker = ConversationTracker()\n"
        "for _ in range(10):\n"
        "    tracker.track_token_usage(1)\n"
        "    tracker.send_tracked_data()\n"
        "for number in range(int(sys.argv[1])):\n"
        "    with tracker.conversation(f'c{number}'):\n"
        "        tracker.track_token_usage(1)\n"
        "began = time.monotonic()\n",
        conversations,
        AGENTSIGHT_API_ENDPOINT=backend.url,
    )
    backend.hangs.clear()
    if backend_is == "down":
        backend.start()
    hosts.recover(AGENTSIGHT_API_ENDPOINT=backend.url)

    calls = 10 + conversations
    figure(
        f"exit with the backend {backend_is}, {conversations:,} conversations open: "
        f"{float(told):.2f} s, {calls - backend.calls()} of {calls:,} lost"
    )
    assert float(told) < 2.5
    assert backend.calls() == backend.tokens() == calls


def test_signals_are_the_hosts(hosts: Hosts, backend: Backend) -> None:
    """No handler is installed; SIGTERM ends a program as it always did, and nothing is lost."""
    host = hosts.start(
        "import signal, sys, time\n"
        "before = [signal.getsignal(number) for number in signal.valid_signals()]\n"
        "from agentsight_tokens import ConversationTracker\n"
        "tracker = ConversationTracker()\n"
        "tracker.track_token_usage(5)\n"
        "tracker.send_tracked_data(wait=10)\n"
        "tracker.track_token_usage(5)\n"
        "after = [signal.getsignal(number) for number in signal.valid_signals()]\n"
        "print(before == after, flush=True)\n"
        "time.sleep(60)\n",
        AGENTSIGHT_API_ENDPOINT=backend.url,
    )
    assert host.stdout
    assert host.stdout.readline() == "True\n"
    host.terminate()
    assert host.wait(10) == -signal.SIGTERM
    hosts.recover(AGENTSIGHT_API_ENDPOINT=backend.url)

    assert backend.tokens() == 10


def test_the_lambda_recipe(
    hosts: Hosts, backend: Backend, provider: LoopbackProvider, figure: Callable[[str], None]
) -> None:
    """Between invocations the process is frozen; what was sent is delivered before."""
    runtime = (
        (EXAMPLES / "aws_lambda.py").read_text()
        + """
import json, sys
for line in sys.stdin:
    print(json.dumps(handler(json.loads(line), None)), flush=True)
"""
    )
    host = hosts.start(
        runtime,
        AGENTSIGHT_API_ENDPOINT=backend.url,
        OPENAI_API_KEY="k",
        OPENAI_BASE_URL=provider.openai_url,
    )
    assert host.stdin
    assert host.stdout
    for number in range(5):
        host.send_signal(signal.SIGCONT)
        host.stdin.write(json.dumps({"session": f"s{number}", "question": "Why?"}) + "\n")
        host.stdin.flush()
        assert json.loads(host.stdout.readline()) == {"answer": "ok", "tokens": "delivered"}
        host.send_signal(signal.SIGSTOP)
        time.sleep(0.1)
    host.kill()
    host.wait()

    figure(f"Lambda: {backend.calls()} of 5 invocations stored, frozen between them, then killed")
    assert backend.calls() == 5


def test_gunicorn_is_there() -> None:
    """The tests above must not pass for want of it."""
    assert shutil.which("gunicorn", path=str(Path(sys.executable).parent))
