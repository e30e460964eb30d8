"""Disks that are full, read-only, missing or taken away: the host goes on, nothing is silent."""

from __future__ import annotations

import json
import resource
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.backend import Backend
from tests.faults.hosts import Hosts, eventually, fill, log_of, small_disk

HOST = """
import json, logging, os, sys, threading, time, warnings
from agentsight_tokens import ConversationTracker
from agentsight_tokens.errors import StorageWarning

logging.basicConfig(stream=sys.stderr, level="INFO")
warnings.simplefilter("always")
caught = []
warnings.showwarning = lambda message, category, *rest, **more: caught.append(category.__name__)
tracker = ConversationTracker()
recorded = 0
errors = []

def work(calls):
    global recorded
    for number in range(calls):
        try:
            tracker.track_token_usage(1, 1)
            recorded += 1
        except BaseException as error:
            errors.append(repr(error))

def tell(**more):
    print(json.dumps({"recorded": recorded, "errors": errors, "warnings": caught, **more}))
    sys.stdout.flush()

for line in sys.stdin:
    command, *arguments = line.split()
    if command == "work":
        work(int(arguments[0]))
        tell(usage=tracker.get_usage().input_tokens)
    elif command == "send":
        result = tracker.send_tracked_data(wait=float(arguments[0]))
        tell(status=result.status, error=result.error, pending=result.pending)
    elif command == "flush":
        tell(flushed=tracker.flush(float(arguments[0])))
    elif command == "limit":
        import resource, signal
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(arguments[0]) if arguments else hard, hard))
        tell()
    elif command == "close":
        tracker.close()
        tell()
        break
"""


class Host:
    """A program that does what it is told, line by line."""

    def __init__(self, hosts: Hosts, **environment: object) -> None:
        self.process = hosts.start(HOST, **environment)

    def tell(self, command: str) -> dict[str, object]:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, log_of(self.process)
        return json.loads(line)

    def end(self) -> str:
        """Close the tracker; return the log."""
        self.tell("close")
        self.process.communicate(timeout=60)
        log = log_of(self.process)
        assert self.process.returncode == 0, log
        return log


@pytest.mark.parametrize("backend_is", ["up", "down while it is full"])
def test_a_full_disk_drains_when_there_is_space(
    hosts: Hosts, disk: Path, backend: Backend, figure: Callable[[str], None], backend_is: str
) -> None:
    """Calls go on without an exception, are held in memory, and all arrive."""
    hosts = hosts.on(disk / "data")
    host = Host(hosts, AGENTSIGHT_API_ENDPOINT=backend.url)
    host.tell("work 500")
    assert host.tell("send 20")["status"] == "delivered"
    assert eventually((disk / "data" / "ballast").exists)
    if backend_is != "up":
        backend.stop()
    host.tell("work 500")
    filler = fill(disk)
    held = host.tell("work 5000")
    sent = host.tell("send 1")
    assert (held["recorded"], held["errors"]) == (6000, [])
    if backend_is != "up":
        backend.start()
    filler.unlink()
    assert host.tell("flush 60")["flushed"] is True
    told = host.tell("send 20")
    log = host.end()

    figure(
        f"disk full, backend {backend_is}: 5,000 calls recorded meanwhile, 0 exceptions, "
        f"send says {sent['status']} ({str(sent['error'])[-60:]}), {6000 - backend.calls()} lost "
        f"after space returned, {told['warnings'].count('StorageWarning')} warning"
    )
    assert sent["status"] == "queued"
    assert backend.calls() == backend.tokens() == 6000
    assert told["warnings"] == ["StorageWarning"]
    assert "Traceback" not in log


def test_a_full_disk_does_not_stop_deliveries(
    hosts: Hosts, disk: Path, backend: Backend, figure: Callable[[str], None]
) -> None:
    """What was sealed before is delivered and noted, by the space of the ballast."""
    hosts = hosts.on(disk / "data")
    host = Host(hosts, AGENTSIGHT_API_ENDPOINT=backend.url)
    host.tell("work 100")
    assert host.tell("send 20")["status"] == "delivered"
    ballast = disk / "data" / "ballast"
    assert eventually(ballast.exists)
    backend.stop()
    for _ in range(20):
        host.tell("work 150")
        host.tell("send 0")
    filler = fill(disk)
    backend.start()
    assert backend.wait_for(3100, 60) == 3100
    flushed = host.tell("flush 20")["flushed"]
    redelivered = backend.redelivered
    had_ballast = not ballast.exists()
    filler.unlink()
    assert eventually(ballast.exists)
    host.end()

    figure(
        f"disk full, 3,000 calls waiting: all delivered and noted ({flushed=}), {redelivered} "
        f"delivered twice, ballast {'used' if had_ballast else 'not needed'} and taken again"
    )
    assert flushed
    assert backend.calls() == backend.tokens() == 3100


def test_files_that_may_not_grow(
    hosts: Hosts, backend: Backend, figure: Callable[[str], None]
) -> None:
    """A quota is a full disk: the same holds where no file system can be mounted."""
    host = Host(hosts, AGENTSIGHT_API_ENDPOINT=backend.url)
    host.tell("work 500")
    host.tell("limit 65536")
    held = host.tell("work 3000")
    host.tell("limit")
    assert host.tell("flush 60")["flushed"] is True
    assert host.tell("send 30")["status"] == "delivered"
    host.end()

    figure(
        f"file size limit: {held['errors'] or 0} exceptions, {3500 - backend.calls()} of 3,500 lost"
    )
    assert held["errors"] == []
    assert backend.calls() == backend.tokens() == 3500


@pytest.mark.parametrize("where", ["read-only", "below a file", "below /proc"])
def test_a_directory_that_cannot_be_written(
    tmp_path: Path, hosts: Hosts, backend: Backend, figure: Callable[[str], None], where: str
) -> None:
    """Everything is kept in memory and delivered from there; one warning says so."""
    with small_disk(tmp_path / "disk", 1, "ro") as read_only:
        (tmp_path / "file").write_text("")
        data = {
            "read-only": read_only / "data",
            "below a file": tmp_path / "file" / "data",
            "below /proc": Path("/proc/agentsight"),
        }[where]
        hosts = hosts.on(data)
        host = Host(hosts, AGENTSIGHT_API_ENDPOINT=backend.url)
        worked = host.tell("work 300")
        sent = host.tell("send 20")
        host.tell("work 50")
        log = host.end()

    figure(
        f"data directory {where}: usage {worked['usage']} of 300, sent: {sent['status']}, "
        f"{350 - backend.calls()} of 350 lost, {len(sent['warnings'])} warning"
    )
    assert (worked["usage"], worked["errors"]) == (300, [])
    assert sent["status"] == "delivered"
    assert sent["warnings"] == ["StorageWarning"]
    assert backend.calls() == backend.tokens() == 350
    assert "Traceback" not in log


def test_losses_are_counted_and_told(hosts: Hosts, figure: Callable[[str], None]) -> None:
    """Where neither the disk nor a backend takes anything, the log says how much is lost."""
    hosts = hosts.on(Path("/proc/agentsight"))
    host = Host(hosts, AGENTSIGHT_EXIT_FLUSH_SECONDS=0.5)
    for _ in range(5):
        told = host.tell("work 9000")
    sent = host.tell("send 0")
    log = host.end()
    lines = [line for line in log.splitlines() if " lost" in line]

    figure(f"no disk, no backend, 45,000 calls: {sent['error']}; at the end: {lines[-1][-90:]}")
    assert told["errors"] == []
    assert "5000 calls are lost" in str(sent["error"])
    assert "45000 calls could neither" in lines[-1]


def test_a_directory_that_comes_later(
    tmp_path: Path, hosts: Hosts, backend: Backend, figure: Callable[[str], None]
) -> None:
    """What was kept in memory is written as soon as that is possible, and survives a kill."""
    blocker = tmp_path / "later"
    blocker.write_text("")
    hosts = hosts.on(blocker / "data")
    backend.stop()
    host = Host(hosts, AGENTSIGHT_API_ENDPOINT=backend.url)
    host.tell("work 200")
    host.tell("send 0")
    host.tell("work 100")
    blocker.unlink()
    assert eventually(lambda: list((blocker / "data").glob("processes/*/ledger.db")))
    host.tell("work 50")
    # The last look of the caretaker has moved everything.
    assert eventually(lambda: list((blocker / "data").glob("processes/*/*.journal")))
    host.process.kill()
    host.process.wait()
    backend.start()
    hosts.recover(AGENTSIGHT_API_ENDPOINT=backend.url)

    figure(f"data directory made later, then kill -9: {350 - backend.calls()} of 350 lost")
    assert backend.calls() == backend.tokens() == 350


def test_a_directory_that_is_deleted_while_in_use(
    hosts: Hosts, backend: Backend, figure: Callable[[str], None]
) -> None:
    """Open files are written again, under their names."""
    host = Host(hosts, AGENTSIGHT_API_ENDPOINT=backend.url)
    host.tell("work 100")
    assert host.tell("send 20")["status"] == "delivered"
    backend.stop()
    host.tell("work 100")
    host.tell("send 0")
    host.tell("work 100")
    while subprocess.run(["rm", "-rf", str(hosts.data)], check=False).returncode:
        pass  # the process has put a file where all were gone
    host.tell("work 100")
    assert eventually(lambda: list(hosts.data.glob("processes/*/calls-*.journal")))
    told = host.tell("work 100")
    host.process.kill()
    host.process.wait()
    backend.start()
    hosts.recover(AGENTSIGHT_API_ENDPOINT=backend.url)

    figure(f"data directory deleted in use, then kill -9: {500 - backend.calls()} of 500 lost")
    assert told["errors"] == []
    assert backend.calls() == backend.tokens() == 500


def test_the_limit_is_what_it_says() -> None:
    """The tests above run without a limit of their own."""
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
