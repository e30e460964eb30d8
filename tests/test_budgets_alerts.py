"""Alerts of budgets, the webhook and the thresholds of single costs."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from decimal import Decimal
from email.message import Message
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from agentsight_tokens import (
    BUDGET_THRESHOLDS,
    Budget,
    BudgetAlert,
    BudgetExceededError,
    BudgetManager,
    ConversationTracker,
    check_budget,
    faults,
    log_budget_alert,
)
from agentsight_tokens.budgets.alarms import Alarms
from agentsight_tokens.budgets.memory import MemoryStore
from agentsight_tokens.budgets.spool import AlertSpool
from agentsight_tokens.budgets.webhook import (
    SIGNATURE_HEADER,
    AlertWebhook,
    WebhookMessage,
    WebhookSender,
    signature,
)
from agentsight_tokens.errors import StorageError
from agentsight_tokens.folder_lock import FolderLock
from agentsight_tokens.testing import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def alerts() -> list[BudgetAlert]:
    return []


@pytest.fixture
def manager(clock: FakeClock, alerts: list[BudgetAlert]) -> BudgetManager:
    """A manager whose alerts are collected."""
    manager = BudgetManager(clock=clock)
    manager.on_alert(alerts.append)
    return manager


def test_each_level_is_told_once(manager: BudgetManager, alerts: list[BudgetAlert]) -> None:
    """However often a level is passed, and however many at a time."""
    manager.set_budget(Budget(daily_token_limit=1000, alert_at=(0.5, 0.8), on_limit="warning"))

    for _ in range(12):
        manager.reserve(100).settle(100)
    levels = [(alert.level, alert.used) for alert in alerts]
    manager.reserve(900).settle(900)

    assert levels == [(0.5, 500), (0.8, 800), (1.0, 1000)]
    assert len(alerts) == 3


def test_each_window_key_and_unit_has_its_own(
    manager: BudgetManager, alerts: list[BudgetAlert], clock: FakeClock
) -> None:
    """A new window alerts again; users and units do not silence one another."""
    budget = Budget(hourly_token_limit=100, hourly_cost_limit=1, on_limit="warning")
    manager.set_budget(budget, scope="user")

    manager.reserve(90, user_id="a").settle(90, cost=0.9)
    manager.reserve(90, user_id="b").settle(90)
    clock.advance(3600)
    manager.reserve(90, user_id="a").settle(90)

    assert [(a.entity_id, a.unit) for a in alerts] == [
        ("a", "tokens"),
        ("a", "usd"),
        ("b", "tokens"),
        ("a", "tokens"),
    ]
    assert alerts[1].used == Decimal("0.9")
    assert len({a.key for a in alerts}) == 4


def test_a_window_that_slides_alerts_once_a_period(
    manager: BudgetManager, alerts: list[BudgetAlert], clock: FakeClock
) -> None:
    """Its slices are not periods of their own."""
    manager.set_budget(
        Budget(rolling_token_limit=100, rolling_window="60m", on_limit="warning", alert_at=0.5)
    )

    for _ in range(50):
        manager.reserve(2).settle(2)
        clock.advance(60)
    first_hour = len(alerts)
    for _ in range(40):
        manager.reserve(2).settle(2)
        clock.advance(60)

    assert first_hour == 2  # 50 % and 100 %
    assert len(alerts) == 4


def test_the_first_refusal_is_the_last_alert(
    manager: BudgetManager, alerts: list[BudgetAlert], caplog: pytest.LogCaptureFixture
) -> None:
    """A budget that refuses never quite reaches its limit; the alert comes all the same."""
    manager.set_budget(Budget(daily_token_limit=1000))
    manager.reserve(700).settle(700)

    for _ in range(3):
        with pytest.raises(BudgetExceededError):
            manager.reserve(400)

    assert [(a.level, a.used, a.limit) for a in alerts] == [(1.0, 700, 1000)]
    assert caplog.messages == [
        "budget of all calls has refused a call: used 700 tokens of 1,000 tokens per day"
    ]


def test_money_is_refused_and_told_in_usd(
    manager: BudgetManager, alerts: list[BudgetAlert]
) -> None:
    """The alert has USD where USD are limited."""
    manager.set_budget(Budget(monthly_cost_limit=Decimal("2.5")), scope="org")

    with pytest.raises(BudgetExceededError):
        manager.reserve(1, 3, org_id="acme")

    assert (
        alerts[0].message
        == "budget of org 'acme' has refused a call: used $0.00 of $2.50 per month"
    )
    assert str(alerts[0].resets_at) == "2026-02-01 00:00:00+00:00"


def test_a_callback_that_fails_hurts_nobody(manager: BudgetManager) -> None:
    """What it raises is logged; the others and the call go on."""
    told: list[BudgetAlert] = []

    def broken(alert: BudgetAlert) -> None:
        raise RuntimeError("pager is on fire")

    manager.on_alert(broken)
    manager.on_alert(told.append)
    manager.set_budget(Budget(daily_token_limit=100, alert_at=0.5, on_limit="warning"))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(faults, "_raises", False)
        manager.reserve(60).settle(60)

    assert [alert.level for alert in told] == [0.5]


def test_an_alert_is_given_though_nobody_remembers_it() -> None:
    """While the store is away, told twice is better than not at all."""

    class Forgetful(MemoryStore):
        def claim(self, window: object, alert: str) -> bool:
            raise StorageError("away")

    manager = BudgetManager(Forgetful())
    told: list[BudgetAlert] = []
    manager.on_alert(told.append)
    manager.set_budget(Budget(daily_token_limit=100, alert_at=0.5))

    manager.reserve(60).settle(60)
    manager.reserve(1).settle(1)

    assert [alert.level for alert in told] == [0.5]


def test_what_was_told_is_forgotten_some_day(manager: BudgetManager) -> None:
    """Millions of sessions leave no trace in memory; the store remembers what it must."""
    manager.set_budget(Budget(session_token_limit=1, on_limit="warning", alert_at=1.0))
    alarms: Alarms = manager._alarms
    alarms.callbacks.clear()

    for number in range(10_010):
        manager.reserve(1, session_id=str(number)).settle(1)

    assert len(alarms._given) < 10_000


def test_user_ids_are_concealed_outside_the_process() -> None:
    """Alerts and stores get the concealed id, the error in the process the real one."""
    store = MemoryStore()
    manager = BudgetManager(store, conceal=lambda user: f"hash-of-{len(user)}")
    told: list[BudgetAlert] = []
    manager.on_alert(told.append)
    manager.set_budget(Budget(daily_token_limit=10), scope="user")

    with pytest.raises(BudgetExceededError) as caught:
        manager.reserve(11, user_id="alice")

    assert caught.value.entity_id == "alice"
    assert told[0].entity_id == "hash-of-5"
    assert not any("alice" in name for name in store._cells)


class Receiver(HTTPServer):
    """A webhook on this machine that answers as it is told."""

    def __init__(self) -> None:
        self.answers = [200]
        self.received: list[tuple[Message, bytes]] = []
        self.arrived = threading.Semaphore(0)
        super().__init__(("127.0.0.1", 0), ReceiverHandler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/hook"


class ReceiverHandler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.received.append((self.headers, body))
        answers = self.server.answers
        self.send_response(answers.pop(0) if len(answers) > 1 else answers[0])
        self.end_headers()
        self.server.arrived.release()

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    thread = threading.Thread(target=receiver.serve_forever, daemon=True)
    thread.start()
    yield receiver
    receiver.shutdown()
    receiver.server_close()
    thread.join()


def test_a_webhook_gets_signed_json_that_slack_shows(
    manager: BudgetManager, receiver: Receiver
) -> None:
    """A text, coloured fields, a key that names the alert and a signature of the body."""
    manager.on_alert(AlertWebhook(receiver.url, secret="s3cret"))
    manager.set_budget(Budget(daily_token_limit=100, alert_at=0.5), scope="user")

    manager.reserve(60, user_id="alice").settle(60)
    assert receiver.arrived.acquire(timeout=20)

    headers, body = receiver.received[0]
    told = json.loads(body)
    at = int(headers[SIGNATURE_HEADER].split(",")[0][2:])
    assert told["text"] == "budget of user 'alice' at 50%: used 60 tokens of 100 tokens per day"
    assert told["attachments"][0]["color"] == "warning"
    assert {f["title"]: f["value"] for f in told["attachments"][0]["fields"]} == {
        "scope": "user",
        "entity_id": "alice",
        "window": "day",
        "level": "50%",
        "used": "60 tokens",
        "limit": "100 tokens",
        "resets_at": "2026-01-02T00:00:00+00:00",
    }
    assert headers[SIGNATURE_HEADER] == f"t={at},v1={signature('s3cret', at, body)}"
    assert headers["AgentSight-Alert-Key"] == "user:alice:day@1767225600 tokens:0.5"


def test_a_webhook_is_tried_again_until_it_answers(receiver: Receiver) -> None:
    """5xx, 429 and a server that is away are tried again, at growing intervals."""
    receiver.answers = [503, 429, 200]
    pauses: list[float] = []
    sender = WebhookSender(sleep=pauses.append)

    sender.put(WebhookMessage("k", receiver.url, b"{}", {}))
    for _ in range(3):
        assert receiver.arrived.acquire(timeout=20)

    assert pauses == [1.0, 2.0]
    assert len(receiver.received) == 3


def test_a_webhook_that_refuses_is_given_up(
    receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    """What will never be accepted is logged, and the next alert is delivered."""
    receiver.answers = [400, 200]
    sender = WebhookSender(sleep=lambda _: None)

    sender.put(WebhookMessage("k", receiver.url, b"{}", {}))
    sender.put(WebhookMessage("l", receiver.url, b"{}", {}))
    for _ in range(2):
        assert receiver.arrived.acquire(timeout=20)

    assert len(receiver.received) == 2
    assert "an alert was not delivered: the webhook answered 400" in caplog.messages


def test_a_webhook_that_is_away_is_given_up_at_last(caplog: pytest.LogCaptureFixture) -> None:
    """After several minutes of trying, the log has the reason."""
    pauses: list[float] = []
    sender = WebhookSender(sleep=pauses.append)

    sender.put(WebhookMessage("k", "http://127.0.0.1:9/", b"{}", {}))
    deadline = time.monotonic() + 20
    while "was not reached" not in caplog.text and time.monotonic() < deadline:
        time.sleep(0.01)

    assert len(pauses) == 8
    assert "the webhook was not reached" in caplog.text


def spool_in(folder: Path, **options: Any) -> AlertSpool:
    pauses: list[float] = []
    options = {"longest_wait_seconds": 60, "sleep": pauses.append, **options}
    spool = AlertSpool(folder / "alerts", **options)
    spool.pauses = pauses
    return spool


def files_in(folder: Path) -> list[str]:
    return [file.name for file in (folder / "alerts").iterdir() if file.suffix != ""]


def test_a_spooled_alert_is_tried_again_until_it_is_accepted(
    receiver: Receiver, tmp_path: Path
) -> None:
    """The file that holds it goes with it; its key stays the same."""
    receiver.answers = [503, 429, 200]
    spool = spool_in(tmp_path)

    spool.put(WebhookMessage("k", receiver.url, b"{}", {"AgentSight-Alert-Key": "k"}))
    spool.join(20)

    assert spool.pauses == [1.0, 2.0]
    assert [headers["AgentSight-Alert-Key"] for headers, _ in receiver.received] == ["k"] * 3
    assert files_in(tmp_path) == []


def test_what_a_process_leaves_the_next_delivers(receiver: Receiver, tmp_path: Path) -> None:
    """An alert outlives the process that gave it, and is posted as it was signed."""
    has_ended = threading.Event()
    first = spool_in(tmp_path, sleep=lambda _: has_ended.wait(60))
    receiver.answers = [503]
    first.put(WebhookMessage("k", receiver.url, b'{"text": "ho"}', {"X": "1"}))
    assert receiver.arrived.acquire(timeout=20)
    receiver.answers = [200]

    spool_in(tmp_path).join(20)
    has_ended.set()
    first.join(20)

    assert [body for _, body in receiver.received] == [b'{"text": "ho"}'] * 2
    assert files_in(tmp_path) == []


def test_a_spooled_alert_that_is_refused_or_too_old_is_given_up(
    receiver: Receiver, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The log has it, and what is no alert at all."""
    receiver.answers = [400, 503]
    (tmp_path / "alerts").mkdir()
    (tmp_path / "alerts" / "1-x.json").write_text("torn")
    spool = spool_in(tmp_path, longest_wait_seconds=0)

    spool.put(WebhookMessage("k", receiver.url, b"{}", {}))
    spool.join(20)
    spool.put(WebhookMessage("l", receiver.url, b"{}", {}))
    spool.join(20)

    assert files_in(tmp_path) == []
    assert "holds no alert" in caplog.text
    assert "an alert was not delivered: the webhook answered 400" in caplog.messages
    assert "an alert was not delivered: the webhook answered 503" in caplog.messages


def test_one_process_at_a_time_delivers(receiver: Receiver, tmp_path: Path) -> None:
    """While another one has the turn, nothing is posted twice."""
    (tmp_path / "alerts").mkdir()
    other = FolderLock(tmp_path / "alerts" / "lock")
    assert other.try_acquire()
    spool = spool_in(tmp_path, sleep=lambda _: other.release())

    spool.put(WebhookMessage("k", receiver.url, b"{}", {}))
    spool.join(20)

    assert len(receiver.received) == 1


def test_a_variable_is_all_a_webhook_takes(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Alerts of the configured budget reach it."""
    monkeypatch.setenv("AGENTSIGHT_DAILY_TOKEN_LIMIT", "100")
    monkeypatch.setenv("AGENTSIGHT_ALERT_WEBHOOK_URL", receiver.url)

    with ConversationTracker() as tracker:
        tracker.track_token_usage(85)
        assert receiver.arrived.acquire(timeout=20)

    assert b"budget of all calls at 80%: used 85 tokens" in receiver.received[0][1]


def test_a_webhooks_address_is_checked() -> None:
    """Files and other schemes are none; without a secret nothing is signed."""
    put: list[WebhookMessage] = []

    class Outbox:
        def put(self, message: WebhookMessage) -> None:
            put.append(message)

    manager = BudgetManager()
    manager.on_alert(AlertWebhook("https://hooks.example/1", outbox=Outbox()))
    manager.set_budget(Budget(total_token_limit=100, on_limit="warning"))
    manager.add(100)

    with pytest.raises(ValueError, match="begins with https://"):
        AlertWebhook("file:///etc/passwd")
    assert SIGNATURE_HEADER not in put[0].headers
    assert b'"value":"never"' in put[0].body
    assert json.loads(put[1].body)["attachments"][0]["color"] == "danger"


def test_the_thresholds_of_the_skill_are_all_alive(caplog: pytest.LogCaptureFixture) -> None:
    """Each of the four levels can be asked for, and warns above its threshold only."""
    assert BUDGET_THRESHOLDS == {
        "per_call_max": 1.00,
        "per_session_max": 10.00,
        "per_user_daily": 50.00,
        "org_daily": 1000.00,
    }
    for level, threshold in (
        ("per_call", 1),
        ("per_session", 10),
        ("per_user_daily", 50),
        ("per_user", 50),
        ("org_daily", 1000),
        ("org", 1000),
        ("per_call_max", 1),
    ):
        caplog.clear()
        assert check_budget(threshold, level, "who")
        assert caplog.messages == []
        assert not check_budget(threshold + 0.01, level, "who")
        assert caplog.messages == [
            f"Cost ${threshold + 0.01:.4f} of 'who' exceeded the {level} budget of ${threshold:.2f}"
        ]


def test_an_unknown_level_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A misspelt level is no budget that is always kept; an added one is."""
    with pytest.raises(ValueError, match="level 'per_galaxy' has no threshold"):
        check_budget(1, "per_galaxy", "who")
    with pytest.raises(ValueError, match="cost must be USD"):
        check_budget(-1, "per_call", "who")

    monkeypatch.setitem(BUDGET_THRESHOLDS, "per_team_max", 5.0)
    assert not check_budget(6, "per_team", "red")


def test_the_log_line_of_the_skill(caplog: pytest.LogCaptureFixture) -> None:
    """The skill's own function can be called by itself."""
    log_budget_alert("per_session", "s1", 12.5, 10.0)

    assert caplog.messages == ["Cost $12.5000 of 's1' exceeded the per_session budget of $10.00"]
