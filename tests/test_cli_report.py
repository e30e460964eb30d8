"""`report` and `calls`: what they select, and how they print it."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from dirty_equals import IsPartialDict, IsStr
from inline_snapshot import snapshot
from typer.testing import CliRunner, Result

from agentsight_tokens import (
    ConversationTracker,
    Cycle,
    Scope,
    TokenConfig,
    TokenUsage,
    UsageRecord,
)
from agentsight_tokens.backend.analytics import DIMENSIONS
from agentsight_tokens.backend.store import SQLiteStore
from agentsight_tokens.cli.app import app
from agentsight_tokens.cli.embedded import bring_in, reading
from agentsight_tokens.cli.report import KNOWN
from agentsight_tokens.destinations.embedded import EmbeddedDestination
from agentsight_tokens.runtime import embedded_store
from agentsight_tokens.sender import Sender
from tests.records import AT, call

TERMINAL = {"FORCE_COLOR": "1", "TERM": "dumb"}
"""A terminal of 80 columns that knows no colours."""

COMMAND = Path(sys.executable).parent / "agentsight-tokens"


def run(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(app, arguments, env={"COLUMNS": "80", **environment})


def rows(*arguments: str) -> list[dict[str, Any]]:
    """Return what a command prints as JSON."""
    done = run(*arguments, "--format", "json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def data_dir() -> Path:
    return TokenConfig().directory


def keep(*records: UsageRecord) -> None:
    """Store calls, each as a cycle of its own."""
    with SQLiteStore(data_dir() / "store.db") as store:
        store.ingest(
            [
                Cycle.of(
                    [record],
                    key=record.id,
                    conversation_id=record.conversation_id or "c",
                    sealed_by="send",
                    sealed_at=AT,
                    environment="test",
                )
                for record in records
            ]
        )


@pytest.fixture
def some_calls() -> list[UsageRecord]:
    """Two conversations of two users, with all that can be missing."""
    ana = Scope(conversation_id="trip", session_id="s1", user_id="ana", tags=("x", "y"))
    ben = Scope(conversation_id="invoice", session_id="s2", user_id="ben")
    calls = [
        call(
            1,
            scope=ana,
            model="gpt-4o",
            usage=TokenUsage(input_tokens=1200, output_tokens=300, cache_read_tokens=1000),
            cost_pico_usd=4_750_000_000,
            duration_seconds=1.25,
        ),
        call(
            2,
            scope=ben,
            model="my-own",
            usage=TokenUsage(input_tokens=70, output_tokens=5),
            cost_pico_usd=None,
            cost_status="unpriced",
            duration_seconds=0.0421,
        ),
        call(
            3,
            scope=ben,
            model="text-embedding-3-small",
            operation="embedding",
            usage=TokenUsage(embedding_tokens=800),
            cost_pico_usd=16_000_000,
        ),
        call(
            4,
            scope=ben,
            usage=TokenUsage(),
            cost_pico_usd=None,
            status="cancelled",
            unreported_reason="cancelled",
        ),
    ]
    keep(*calls)
    return calls


@pytest.mark.usefixtures("some_calls")
def test_rows_for_programs() -> None:
    """JSON has a row for each group with every counter; the cost is an exact string."""
    assert rows("report", "--by", "conversation") == snapshot(
        [
            {
                "conversation_id": "trip",
                "input_tokens": 1200,
                "output_tokens": 300,
                "total_tokens": 1500,
                "embedding_tokens": 0,
                "cache_read_tokens": 1000,
                "cache_creation_tokens": 0,
                "cache_creation_1h_tokens": 0,
                "reasoning_tokens": 0,
                "audio_input_tokens": 0,
                "audio_output_tokens": 0,
                "cache_read_audio_tokens": 0,
                "image_input_tokens": 0,
                "image_output_tokens": 0,
                "web_search_requests": 0,
                "calls": 1,
                "cost_usd": "0.00475",
                "unpriced_calls": 0,
                "unpriced_tokens": 0,
                "unreported_calls": 0,
                "estimated_calls": 0,
            },
            {
                "conversation_id": "invoice",
                "input_tokens": 70,
                "output_tokens": 5,
                "total_tokens": 75,
                "embedding_tokens": 800,
                "cache_read_tokens": 0,
                "cache_creation_tokens": 0,
                "cache_creation_1h_tokens": 0,
                "reasoning_tokens": 0,
                "audio_input_tokens": 0,
                "audio_output_tokens": 0,
                "cache_read_audio_tokens": 0,
                "image_input_tokens": 0,
                "image_output_tokens": 0,
                "web_search_requests": 0,
                "calls": 3,
                "cost_usd": "0.000016",
                "unpriced_calls": 1,
                "unpriced_tokens": 75,
                "unreported_calls": 1,
                "estimated_calls": 0,
            },
        ]
    )


@pytest.mark.usefixtures("some_calls")
def test_a_report_by_conversation_is_the_default() -> None:
    """Without --by, a row is a conversation."""
    assert rows("report") == rows("report", "--by", "conversation_id")


def test_every_dimension_is_in_the_help() -> None:
    """The help names what --by takes, and each of them works on nothing."""
    assert ", ".join(DIMENSIONS) == KNOWN
    for name in DIMENSIONS:
        assert rows("report", "--by", name) == []


@pytest.mark.usefixtures("some_calls")
def test_rows_by_several_dimensions() -> None:
    """Dimensions are given with commas, one by one, or both."""
    by_two = rows("report", "--by", "user, day", "--by", "model")

    assert by_two[0] == IsPartialDict(user_id="ana", day="2026-01-02", model="gpt-4o", calls=1)
    assert len(by_two) == 4


@pytest.mark.usefixtures("some_calls")
def test_csv() -> None:
    """CSV has the same fields; what is not known is empty."""
    printed = run("report", "--by", "model", "--format", "csv").stdout
    read = list(csv.DictReader(io.StringIO(printed)))

    assert [row["model"] for row in read] == ["gpt-4o", "text-embedding-3-small", "my-own"]
    assert [row["cost_usd"] for row in read] == ["0.00475", "0.000016", "0"]
    assert list(read[0]) == list(rows("report", "--by", "model")[0])
    empty = run("report", "--by", "model", "--user", "zoe", "--format", "csv").stdout
    assert empty == printed.splitlines(keepends=True)[0]


@pytest.mark.usefixtures("some_calls")
def test_a_piped_table_is_plain() -> None:
    """Without a terminal there are no lines, no colours and no blanks at the ends."""
    assert run("report").stdout == snapshot("""\
conversation  calls  input  cached  output  total  embedded  unpriced  unreported       cost
trip              1  1,200   1,000     300  1,500         0         0           0  $0.004750
invoice           3     70       0       5     75       800        75           1  $0.000016
total             4  1,270   1,000     305  1,575       800        75           1  $0.004766
unpriced: 75 tokens of 1 call have no known price and are not in the cost; `report --by model` shows whose, AGENTSIGHT_COST_RATES__<MODEL> or AGENTSIGHT_PRICES_FILE sets one for later calls.
unreported: of 1 call the provider never said what they used; they are counted as calls, not as tokens.
""")


@pytest.mark.usefixtures("some_calls")
def test_a_table_on_a_terminal() -> None:
    """At 80 columns no number is cut; the least important columns are left out."""
    done = run("report", "--by", "user,model", **TERMINAL)

    assert done.stdout == snapshot("""\
Usage by user and model
user   model               calls  input  output  unpriced  unreported       cost
────────────────────────────────────────────────────────────────────────────────
ana    gpt-4o                  1  1,200     300         0           0  $0.004750
ben    text-embedding-3-s      1      0       0         0           0  $0.000016
       mall                                                                     \n\
ben    my-own                  1     70       5        75           0   unpriced
ben    gpt-4o                  1      0       0         0           1          ?
                                                                                \n\
total                          4  1,270     305        75           1  $0.004766
unpriced: 75 tokens of 1 call have no known price and are not in the cost; \n\
`report --by model` shows whose, AGENTSIGHT_COST_RATES__<MODEL> or \n\
AGENTSIGHT_PRICES_FILE sets one for later calls.
unreported: of 1 call the provider never said what they used; they are counted \n\
as calls, not as tokens.
""")
    assert max(map(len, done.stdout.splitlines())) <= 80


@pytest.mark.usefixtures("some_calls")
def test_colours_only_where_they_are_wanted() -> None:
    """A terminal gets colours, and NO_COLOR takes them away."""
    terminal = {"FORCE_COLOR": "1", "TERM": "xterm-256color"}

    assert "\x1b[33m" in run("report", **terminal).stdout
    assert "\x1b[33m" not in run("report", **terminal, NO_COLOR="1").stdout


@pytest.mark.parametrize("width", ["20", "40", "60", "100", "200"])
@pytest.mark.usefixtures("some_calls")
def test_no_number_is_ever_cut(width: str) -> None:
    """However narrow the terminal, keys, inputs, outputs and costs are whole."""
    terminal = {"FORCE_COLOR": "1", "NO_COLOR": "1", "COLUMNS": width}

    report = run("report", "--by", "user", **terminal).stdout
    calls = run("calls", **terminal).stdout

    for expected in ("ana", "1,200", "300", "$0.004750", "unpriced"):
        assert expected in report
    for expected in ("1,200", "300", "$0.004750", "cancelled", "unpriced"):
        assert expected in calls


@pytest.mark.usefixtures("some_calls")
def test_limited_reports_keep_their_total() -> None:
    """A limit hides rows, not figures."""
    done = run("report", "--by", "model", "--limit", "1")

    assert len(rows("report", "--by", "model", "--limit", "1")) == 1
    assert "2 more rows" in done.stdout
    assert "total   4" in re.sub(" +", "   ", done.stdout)


def test_a_user_whose_id_is_hashed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The filter takes the id itself, hashed with the configured key, or what reports show."""
    monkeypatch.setenv("AGENTSIGHT_HASH_USER_IDS", "1")
    monkeypatch.setenv("AGENTSIGHT_HASH_KEY", "a long random key")
    with ConversationTracker() as tracker:
        for user, tokens in (("ana@example.com", 5), ("ben@example.com", 7)):
            with tracker.attribution(user_id=user):
                tracker.track_token_usage(tokens)
        assert tracker.send_tracked_data(wait=20).status == "delivered"

    (found,) = rows("report", "--by", "user", "--user", "ana@example.com")

    assert found == IsPartialDict(user_id=IsStr(regex="[0-9a-f]{32}"), input_tokens=5)
    assert rows("report", "--by", "user", "--user", found["user_id"]) == [found]
    assert rows("calls", "--user", "ben@example.com")[0]["input_tokens"] == 7
    assert rows("calls", "--user", "zoe") == []


@pytest.mark.parametrize(
    ("arguments", "inputs"),
    [
        (["--user", "ana"], 1200),
        (["--conversation", "invoice"], 70),
        (["--session", "s1"], 1200),
        (["--model", "my-own"], 70),
        (["--tag", "x", "--tag", "y"], 1200),
        (["--tag", "x", "--tag", "z"], 0),
        (["--status", "cancelled"], 0),
        (["--operation", "chat", "--environment", "test"], 1270),
        (["--environment", "production"], 0),
        (["--since", "2026-01-02"], 1270),
        (["--until", "2026-01-02"], 0),
        (["--since", "2026-01-02", "--timezone", "America/New_York"], 0),
        (["--since", "2026-01-02T04:04:07+01:00"], 70),
        (["--until", "2026-01-02t03:04:07Z"], 1200),
        (["--since", "1d"], 0),
        (["--until", "1000w"], 0),
        (["--until", "yesterday"], 1270),
        (["--since", "today", "--until", "now"], 0),
    ],
)
@pytest.mark.usefixtures("some_calls")
def test_filters(arguments: list[str], inputs: int) -> None:
    """Each filter selects by its own field, and all of them together."""
    assert sum(row["input_tokens"] for row in rows("report", *arguments)) == inputs


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--by", "usr"], "--by: 'usr' is nothing to group by; known are conversation, session"),
        (["--format", "xml"], "--format"),
        (["--since", "2026-01-02T10:00"], "'2026-01-02T10:00' has no offset"),
        (["--since", "2026-02-30"], "'2026-02-30' is no time; write a day (2026-01-31)"),
        (["--until", "tomorrow"], "--until: 'tomorrow' is no time"),
        (["--since", "99999999999d"], "'99999999999d' is no time"),
        (["--since", "1d", "--until", "2d"], "'2d' is not after --since '1d'"),
        (["--timezone", "Mars/Olympus"], "'Mars/Olympus' is no time zone of this machine"),
        (["--timezone", "../etc"], "'../etc' is no time zone"),
        (["--status", "eror"], "'eror' is none of ok, error, cancelled, partial"),
        (["--limit", "0"], "--limit"),
        (["--data-dir", "/no/such"], "'/no/such' is no directory"),
    ],
)
def test_wrong_use_is_explained(arguments: list[str], message: str) -> None:
    """The message names the option, the value and the way out; the exit code is 2."""
    done = run("report", *arguments, COLUMNS="500")

    assert done.exit_code == 2
    assert message in " ".join(done.stderr.split())
    assert done.stdout == ""


def test_an_empty_report_is_no_error() -> None:
    """Programs get nothing; readers are told what to do next. No file is made."""
    done = run("report")

    assert rows("report") == rows("calls") == []
    assert done.exit_code == 0
    assert done.stdout.replace(str(data_dir()), "DIRECTORY") == snapshot("""\
No calls in DIRECTORY yet.
See it at work: agentsight-tokens demo
Count your own calls of LangChain or LlamaIndex, in a few lines:

  from agentsight_tokens import ConversationTracker
  tracker = ConversationTracker(token_handler="auto")  # before your calls
  tracker.send_tracked_data()                          # after them
""")
    assert run("calls").stdout == done.stdout
    assert not data_dir().exists()


def test_calls_that_go_elsewhere() -> None:
    """Where calls are delivered to a server, the empty report says so."""
    done = run("report", AGENTSIGHT_API_ENDPOINT="https://tokens.example")

    assert "They are delivered to https://tokens.example; this is the store" in done.stdout


@pytest.mark.usefixtures("some_calls")
def test_an_empty_selection_says_so() -> None:
    """Where a filter hides everything, the message says which and of how many."""
    done = run("report", "--user", "zoe", "--tag", "a", "--tag", "b", "--since", "2026-01-01")

    assert done.stdout.replace(str(data_dir()), "DIRECTORY") == snapshot("""\
No call matches user zoe, tags a and b, since 2026-01-01 00:00+00:00.
Without the filters there are 4 calls in DIRECTORY.
""")


@pytest.mark.usefixtures("some_calls")
def test_a_given_data_directory_wins(tmp_path: Path) -> None:
    """--data-dir is read in place of the environment's directory."""
    assert rows("report", "--data-dir", str(tmp_path)) == []
    assert len(rows("report", "--data-dir", str(data_dir()))) == 2


def test_a_damaged_store_is_named() -> None:
    """What cannot be read is an error of one line, and exit code 1."""
    data_dir().mkdir(parents=True)
    (data_dir() / "store.db").write_text("no database, but long enough to look like one" * 20)

    done = run("report")

    assert done.exit_code == 1
    assert done.stderr.startswith(f"error: the store '{data_dir() / 'store.db'}' cannot be read")


def test_what_was_sent_is_brought_in(tracker: ConversationTracker) -> None:
    """A cycle that a running process has sent is in the report, delivered or not."""
    with tracker.conversation("c"):
        tracker.track_token_usage(7, 2)
        tracker.send_tracked_data()

    assert [row["input_tokens"] for row in rows("report")] == [7]


def test_dead_processes_are_brought_in() -> None:
    """What a killed process had counted and not sent is in the report, once."""
    killed = (
        "import os, signal\n"
        "from agentsight_tokens import ConversationTracker\n"
        "tracker = ConversationTracker()\n"
        "for number in range(5):\n"
        "    with tracker.conversation(f'c{number % 2}'):\n"
        "        tracker.track_token_usage(10)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", killed], check=False).returncode == -9

    for _ in range(2):
        done = subprocess.run(
            [COMMAND, "report", "--by", "conversation", "--format", "json"],
            capture_output=True,
            text=True,
            check=True,
        )
        found = {row["conversation_id"]: row["input_tokens"] for row in json.loads(done.stdout)}
        assert found == {"c0": 30, "c1": 20}
        assert done.stderr == ""


def test_two_reports_beside_a_running_process(tracker: ConversationTracker) -> None:
    """Reports at the same time as a sender bring everything in, and nothing twice."""
    for number in range(50):
        with tracker.conversation(f"c{number}"):
            tracker.track_token_usage(1)
            tracker.send_tracked_data()
    reports = [
        subprocess.Popen(
            [COMMAND, "report", "--by", "year", "--format", "json"],
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]

    printed = [json.loads(report.communicate(timeout=60)[0]) for report in reports]

    assert [row["calls"] for found in printed for row in found] == [50, 50]


def test_a_store_that_takes_nothing_is_not_waited_for(
    tracker: ConversationTracker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Where cycles cannot come in, the report says that they are missing."""
    from agentsight_tokens import faults

    monkeypatch.setattr(faults, "_raises", False)
    with tracker.conversation("c"):
        tracker.track_token_usage(1)
        assert tracker.send_tracked_data(wait=5).status == "delivered"
        other = tmp_path / "other"
        killed = (
            "import os, signal\n"
            "from agentsight_tokens import ConversationTracker\n"
            "tracker = ConversationTracker()\n"
            "tracker.track_token_usage(10)\n"
            "os.kill(os.getpid(), signal.SIGKILL)\n"
        )
        environment = {**os.environ, "AGENTSIGHT_DATA_DIR": str(other)}
        done = subprocess.run([sys.executable, "-c", killed], check=False, env=environment)
        assert done.returncode == -9
    (other / "store.db").mkdir()

    assert bring_in(other, seconds=20) == 1


def test_a_broken_pipe_is_silent() -> None:
    """`report | head` ends without a traceback."""
    keep(*(call(n, conversation=f"c{n}") for n in range(3000)))

    done = subprocess.run(
        f"'{COMMAND}' report --format csv | head -n 1", shell=True, capture_output=True, text=True
    )

    assert done.stdout.startswith("conversation_id,")
    assert "Traceback" not in done.stderr


@pytest.mark.usefixtures("some_calls")
def test_calls_for_programs() -> None:
    """JSON has every field of a record, flat, the newest first."""
    found = rows("calls")

    assert [row["model"] for row in found] == [
        "gpt-4o",
        "text-embedding-3-small",
        "my-own",
        "gpt-4o",
    ]
    assert found[3] == IsPartialDict(
        at="2026-01-02T03:04:06.678901Z",
        conversation_id="trip",
        user_id="ana",
        tags=["x", "y"],
        input_tokens=1200,
        cache_read_tokens=1000,
        cost_usd="0.00475",
        duration_seconds=1.25,
        status="ok",
    )
    assert found[2]["cost_usd"] is None
    assert found[0]["unreported_reason"] == "cancelled"


@pytest.mark.usefixtures("some_calls")
def test_calls_as_csv() -> None:
    """CSV has the fields of JSON, a list as words."""
    read = list(csv.DictReader(io.StringIO(run("calls", "--format", "csv").stdout)))

    assert list(read[0]) == list(rows("calls")[0])
    assert (read[3]["tags"], read[3]["at"]) == ("x y", "2026-01-02T03:04:06.678901+00:00")
    assert read[2]["cost_usd"] == ""


@pytest.mark.usefixtures("some_calls")
def test_calls_as_a_plain_table() -> None:
    """A row has what a reader asks first; what is not known is a question mark or a dash."""
    assert run("calls").stdout == snapshot("""\
time                 conversation  model                      in  cached  out       cost   took  status
2026-01-02 03:04:09  invoice       gpt-4o                      ?       ?    ?          ?      -  cancelled
2026-01-02 03:04:08  invoice       text-embedding-3-small    800       0    0  $0.000016      -  ok
2026-01-02 03:04:07  invoice       my-own                     70       0    5   unpriced  42 ms  ok
2026-01-02 03:04:06  trip          gpt-4o                  1,200   1,000  300  $0.004750  1.2 s  ok
""")


def test_calls_on_a_terminal(some_calls: list[UsageRecord]) -> None:
    """At 80 columns every call is one line; the day is in the title if it is the same."""
    assert run("calls", "--timezone", "Asia/Tokyo", **TERMINAL).stdout == snapshot("""\
The newest 4 calls of 2026-01-02, Asia/Tokyo
time     conversation model              in cached out      cost  took status   \n\
────────────────────────────────────────────────────────────────────────────────
12:04:09 invoice      gpt-4o              ?      ?   ?         ?     - cancelled
12:04:08 invoice      text-embedding…   800      0   0 $0.000016     - ok       \n\
12:04:07 invoice      my-own             70      0   5  unpriced 42 ms ok       \n\
12:04:06 trip         gpt-4o          1,200  1,000 300 $0.004750 1.2 s ok       \n\
""")
    keep(call(9, at=AT + timedelta(days=1), conversation="a-very-long-name-of-a-conversation"))
    assert run("calls", "-n", "2", **TERMINAL).stdout == snapshot("""\
The newest 2 calls, UTC
time                conversation  model  in cached out       cost took status   \n\
────────────────────────────────────────────────────────────────────────────────
2026-01-03 03:04:05 a-very-long-… gpt-4o  9      0  18 <$0.000001    - ok       \n\
2026-01-02 03:04:09 invoice       gpt-4o  ?      ?   ?          ?    - cancelled
""")


@pytest.mark.parametrize("name", ["[red]x[/]", "\x1b[31mx", "a\nb", "日本", "x" * 100])
@pytest.mark.parametrize("command", ["report", "calls"])
def test_names_cannot_paint(command: str, name: str) -> None:
    """Neither markup nor control characters of an id reach the terminal; JSON has them."""
    keep(call(1, conversation=name))

    done = run(command, FORCE_COLOR="1", NO_COLOR="1")

    assert "\x1b[31m" not in done.stdout
    assert "[red]" in done.stdout or "[red]" not in name
    assert rows(command)[0]["conversation_id"] == name


def test_small_costs_are_not_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is too small for the decimals is said to be small, a real 0 is 0."""
    keep(
        call(1, conversation="a", cost_pico_usd=1),
        call(1, conversation="b", cost_pico_usd=0),
        call(1, conversation="c", cost_pico_usd=1_234_567_890_000_000_000),
    )

    shown = [line.split()[-1] for line in run("report").stdout.splitlines()]

    assert shown == ["cost", "$1,234,567.890000", "<$0.000001", "$0", "$1,234,567.890000"]
    assert rows("report")[0]["cost_usd"] == "1234567.89"
    assert rows("report")[1]["cost_usd"] == "0.000000000001"


def test_estimates_are_marked() -> None:
    """The table says how many calls were not counted by their provider."""
    keep(call(1, source="estimated"), call(2))

    done = run("report")

    assert "estimated" in done.stdout.splitlines()[0]
    assert "the tokens of 1 call were counted here" in done.stdout


@pytest.fixture
def stuck(tracker: ConversationTracker) -> Iterator[ConversationTracker]:
    """A tracker whose data directory has a sender that holds the lock and delivers nothing."""
    config = tracker.config
    holder = Sender(config.directory, EmbeddedDestination(embedded_store(config.directory)))
    while not holder._lock.try_acquire():
        tracker._runtime._senders[0].stop()
    with tracker.conversation("c"):
        tracker.track_token_usage(1)
        tracker.send_tracked_data()
    yield tracker
    holder.stop()


def test_what_does_not_come_in_is_noted(
    stuck: ConversationTracker, capsys: pytest.CaptureFixture[str]
) -> None:
    """When time is up, the figures are what there is, and stderr says that some are missing."""
    with reading(stuck.config, seconds=0.7) as store:
        assert store.rows("SELECT COUNT(*) FROM calls") == [(0,)]

    assert "not in these figures yet: 1;" in capsys.readouterr().err


def test_waiting_is_shown_on_terminals(tracker: ConversationTracker) -> None:
    """Where somebody watches, stderr says that cycles are brought in."""
    killed = (
        "import os, signal\n"
        "from agentsight_tokens import ConversationTracker\n"
        "ConversationTracker().track_token_usage(10)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    tracker.close()
    assert subprocess.run([sys.executable, "-c", killed], check=False).returncode == -9

    done = run("report", FORCE_COLOR="1", TERM="xterm")

    assert "Bringing in 1 cycle" in done.stderr
    assert "Bringing" not in done.stdout


def test_a_call_of_which_the_provider_said_nothing() -> None:
    """A call that went well and was not reported is neither ok nor wrong."""
    keep(call(1, usage=TokenUsage(), cost_pico_usd=None, unreported_reason="provider_silent"))

    assert run("calls").stdout.split()[-1] == "unreported"
    assert run("report").stdout.splitlines()[1].split()[-1] == "?"


def test_many_columns_at_80_columns_cut_no_number() -> None:
    """Ids and gaps give way, whatever is grouped by."""
    keep(
        *[
            call(
                number,
                id=f"{number}",
                model=f"a-model-with-a-long-name-{number}",
                scope=Scope(user_id=f"somebody-{number}", feature="meeting-notes", agent="reader"),
                usage=TokenUsage(input_tokens=172_124_912 + number, output_tokens=16_252_333),
            )
            for number in range(3)
        ]
    )

    shown = run("report", "--by", "day,model,user,feature,agent", **TERMINAL).stdout

    assert max(map(len, shown.splitlines())) <= 80
    for number in ("172,124,912", "172,124,914", "516,374,739", "16,252,333", "48,756,999"):
        assert number in shown
    assert f"{AT:%Y-%m-%d}" in shown
