"""Alerts of the server's budgets are delivered, whatever the receiver does."""

from __future__ import annotations

import hmac
import socket
import ssl
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import trustme

from agentsight_tokens import Scope
from agentsight_tokens.backend.budgets import Alert, BudgetChange, Budgets, NewBudget
from agentsight_tokens.backend.store import SQLiteStore, Store
from agentsight_tokens.backend.webhooks import Courier, post
from agentsight_tokens.backend.webhooks.post import is_public
from agentsight_tokens.budgets.webhook import WebhookMessage
from tests.ports import free_port
from tests.records import AT, call
from tests.server_budget_kit import cycle_of
from tests.store_kit import postgresql, store
from tests.webhook_kit import Webhook, hang_up, status

__all__ = ["postgresql", "store"]

SECRET = "s3cret"


class Clock:
    """A clock that goes when it is told; it is ahead of the store's, by which alerts are given."""

    def __init__(self) -> None:
        self.now = datetime.now(timezone.utc) + timedelta(hours=1)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    with closing(Webhook()) as receiver:
        yield receiver


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def courier(store: Store, clock: Clock) -> Courier:
    return Courier(store, allow_private=True, now=clock)


def give_alert(
    store: Store,
    *urls: str,
    secret: str | None = SECRET,
    levels: int = 1,
    project_id: int = 1,
) -> str:
    """Let a budget give an alert for each of its levels; return the budget's id."""
    new = NewBudget(
        name="Marketing",
        scope="user",
        window="day",
        token_limit=10,
        levels=tuple((i + 1) / 10 for i in range(levels)),
        webhook_urls=urls,
        webhook_secret=secret,
    )
    budget = Budgets(store, now=lambda: AT).create(project_id, new)
    store.ingest(
        [cycle_of(call(5, scope=Scope(user_id="ann")), key=budget.id)], project_id=project_id
    )
    return budget.id


def told(store: Store) -> Alert:
    [alert] = Budgets(store).alerts(1).alerts
    return alert


def test_an_alert_is_posted_and_signed(store: Store, webhook: Webhook, courier: Courier) -> None:
    """As Slack takes it, with a key that is always the same, signed when it is sent."""
    give_alert(store, webhook.url)

    assert courier.deliver_due() == 1
    assert courier.deliver_due() == 0

    [received] = webhook.received
    alert = told(store)
    assert received.path == "/hook?team=1"
    assert received.headers["AgentSight-Alert-Key"] == alert.id
    assert received.json["text"] == (
        "budget of user 'ann' at 10%: used 15 tokens of 10 tokens per day"
    )
    [attachment] = received.json["attachments"]
    assert {f["title"]: f["value"] for f in attachment["fields"]}["budget"] == "Marketing"
    at, _, digest = received.headers["AgentSight-Signature"].partition(",v1=")
    signed = f"{at.removeprefix('t=')}.".encode() + received.body
    assert digest == hmac.new(SECRET.encode(), signed, sha256).hexdigest()
    [delivery] = alert.deliveries
    assert (delivery.state, delivery.attempts, delivery.error) == ("delivered", 1, None)
    assert delivery.url == webhook.url.replace("hook?team=1", "…")


def test_each_webhook_is_told_of_each_alert(
    store: Store, webhook: Webhook, courier: Courier
) -> None:
    """Without a secret, unsigned; one that fails keeps no other waiting."""
    webhook.behaviours = [hang_up]
    give_alert(store, webhook.url, webhook.url + "&second", secret=None, levels=3)

    assert courier.deliver_due() == 4
    assert courier.deliver_due() == 2

    assert len(webhook.received) == 6
    assert len(set(webhook.keys)) == 3
    assert "AgentSight-Signature" not in webhook.received[0].headers
    states = [d.state for a in Budgets(store).alerts(1).alerts for d in a.deliveries]
    assert sorted(states) == ["delivered"] * 5 + ["waiting"]


def test_it_is_tried_again_later_and_later(
    store: Store, webhook: Webhook, courier: Courier, clock: Clock
) -> None:
    """After 1, 5, 30 seconds and so on; given up after fourteen tries, and marked so."""
    webhook.always = status(500, b"no, not now")
    give_alert(store, webhook.url)
    waits = []

    for _ in range(14):
        assert courier.deliver_due() == 1
        [delivery] = told(store).deliveries
        waits.append((delivery.due_at - clock.now).total_seconds())
        clock.now = delivery.due_at - timedelta(microseconds=1)
        assert courier.deliver_due() == 0
        clock.now = delivery.due_at

    assert waits[:5] == [1, 5, 30, 120, 600]
    assert waits[-1] == 0
    assert (delivery.state, delivery.attempts) == ("given_up", 14)
    assert delivery.error == "the webhook answered 500 no, not now"
    assert len({*webhook.keys}) == 1


def test_the_receiver_may_ask_to_wait(
    store: Store, webhook: Webhook, courier: Courier, clock: Clock
) -> None:
    """Seconds or a date, an hour at most; what cannot be read does not matter."""
    date = format_datetime(datetime.now(timezone.utc) + timedelta(seconds=100), usegmt=True)
    for text in ("40", date, "9" * 400, "Mon, 01 Jan 99999999999 00:00:00 GMT"):
        webhook.behaviours.append(status(429, Retry_After=text))
    give_alert(store, webhook.url)
    waits = []
    for _ in range(4):
        courier.deliver_due()
        [delivery] = told(store).deliveries
        waits.append((delivery.due_at - clock.now).total_seconds())
        clock.now = delivery.due_at

    assert waits[0] == 40
    assert 90 <= waits[1] <= 100
    assert waits[2:] == [3600, 120]


@pytest.mark.parametrize("code", [301, 302, 307, 400, 401, 404, 410])
def test_what_will_never_be_accepted_is_given_up(
    store: Store, webhook: Webhook, courier: Courier, code: int
) -> None:
    """At once; and no redirect is followed, wherever it leads."""
    webhook.always = status(code, Location=webhook.url)
    give_alert(store, webhook.url)

    courier.deliver_due()

    [delivery] = told(store).deliveries
    assert (delivery.state, len(webhook.received)) == ("given_up", 1)
    assert str(code) in (delivery.error or "")


def test_a_slow_or_endless_answer_holds_nobody_up(webhook: Webhook) -> None:
    """The time is up for all of it, and little of a body is read."""
    message = WebhookMessage("k", webhook.url, b"{}", {})
    for behaviour, reason in (
        (webhook.trickle, "no answer within 0.5 seconds"),
        (webhook.flood, "answered 500 xxx"),
        (lambda _: webhook.is_closing.wait(5), "no answer within 0.5 seconds"),
        (lambda h: h.wfile.write(b"SSH-2.0-x\r\n"), "was not reached"),
        (lambda h: h.wfile.write(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 99_999), "was not reached"),
    ):
        webhook.behaviours = [behaviour]
        began = time.monotonic()

        failure = post(message, allow_private=True, timeout_seconds=0.5)

        assert failure is not None
        assert reason in failure.reason
        assert not failure.is_final
        assert len(failure.reason) <= 340
        assert time.monotonic() - began < 3


def test_nothing_listens(store: Store, courier: Courier) -> None:
    """It is tried again, for it may come back."""
    give_alert(store, f"http://127.0.0.1:{free_port()}/")

    courier.deliver_due()

    [delivery] = told(store).deliveries
    assert delivery.state == "waiting"
    assert "the webhook was not reached" in (delivery.error or "")


PRIVATE = [
    *("127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1"),
    *("0.0.0.0", "255.255.255.255", "224.0.0.1", "198.18.0.1", "::1", "::", "fe80::1%eth0"),
    *("fd00::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "2002:7f00:1::"),
    *("64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe"),
]


@pytest.mark.parametrize("address", PRIVATE)
def test_no_private_address_is_public(address: str) -> None:
    """However it is written."""
    assert not is_public(address)


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:2800:220:1::1", "64:ff9b::5db8:d822"])
def test_a_public_address_is_public(address: str) -> None:
    """Of either kind."""
    assert is_public(address)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "[::1]", "[::ffff:127.0.0.1]"]
)
def test_the_servers_own_network_is_not_asked(
    store: Store, webhook: Webhook, clock: Clock, host: str
) -> None:
    """By no name of it, unless the server was told to allow that."""
    url = webhook.url.replace("127.0.0.1", host)
    give_alert(store, url)

    Courier(store, now=clock).deliver_due()

    [delivery] = told(store).deliveries
    assert delivery.state == "given_up"
    assert "--allow-private-webhooks" in (delivery.error or "")
    assert webhook.received == []


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a..b", "x" * 64 + ".example"])
def test_a_name_that_is_not_found_is_tried_again(store: Store, courier: Courier, host: str) -> None:
    """The name server may be away."""
    give_alert(store, f"https://{host}/x")

    courier.deliver_due()

    [delivery] = told(store).deliveries
    assert delivery.state == "waiting"
    assert "the host was not found" in (delivery.error or "")


def test_a_certificate_of_nobody_is_not_trusted() -> None:
    """The message does not leave."""
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as threads:
        url = f"https://127.0.0.1:{listener.getsockname()[1]}/"

        def shake_hands() -> bytes:
            peer, _ = listener.accept()
            with peer:
                try:
                    with context.wrap_socket(peer, server_side=True) as shaken:
                        return shaken.recv(1000)
                except OSError:
                    return b""

        read = threads.submit(shake_hands)
        failure = post(WebhookMessage("k", url, b"{}", {}), allow_private=True)

        assert failure is not None
        assert "certificate" in failure.reason.lower()
        assert read.result() == b""


def test_a_delivery_is_of_one_courier(store: Store, webhook: Webhook, clock: Clock) -> None:
    """However many there are."""
    give_alert(store, webhook.url, levels=8)
    couriers = [Courier(store, allow_private=True, now=clock) for _ in range(4)]

    with ThreadPoolExecutor(4) as threads:
        done = sum(threads.map(Courier.deliver_due, couriers))
    while found := couriers[0].deliver_due():
        done += found

    assert done == 8
    assert len(webhook.keys) == len({*webhook.keys}) == 8


def test_no_project_keeps_the_others_waiting(
    store: Store, webhook: Webhook, courier: Courier
) -> None:
    """Each has its turn, though one has a hundred alerts to tell of."""
    urls = [f"{webhook.url}&{number}" for number in range(5)]
    for _ in range(2):
        give_alert(store, *urls, levels=10)
    give_alert(store, f"{webhook.url}&other", project_id=2)

    assert courier.deliver_due() == 5

    assert sum(each.path.endswith("&other") for each in webhook.received) == 1


def test_what_a_dead_courier_has_claimed_is_delivered(
    store: Store, webhook: Webhook, clock: Clock
) -> None:
    """A minute later, by another one, under the same key."""
    give_alert(store, webhook.url)

    class Dead(Courier):
        def _deliver(self, due: object) -> None:
            pass

    assert Dead(store, allow_private=True, now=clock).deliver_due() == 1
    living = Courier(store, allow_private=True, now=clock)
    assert living.deliver_due() == 0
    clock.now += timedelta(seconds=61)

    assert living.deliver_due() == 1
    assert webhook.keys == [told(store).id]
    assert told(store).deliveries[0].attempts == 2


def test_a_new_secret_signs_what_waits(store: Store, webhook: Webhook, courier: Courier) -> None:
    """The one of the time at which it is sent."""
    budget_id = give_alert(store, webhook.url)
    budgets = Budgets(store)

    changed = budgets.change(1, budget_id, BudgetChange(webhook_secret=None))
    courier.deliver_due()

    assert changed is not None
    assert not changed.is_signed
    assert "AgentSight-Signature" not in webhook.received[0].headers


def test_what_nobody_has_expected_ends_no_courier(
    store: Store, webhook: Webhook, courier: Courier, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged, and tried again."""
    give_alert(store, webhook.url)
    with store.transaction() as transaction:
        transaction.run("UPDATE webhook_deliveries SET url = 'gopher://x/'")

    courier.deliver_due()

    [delivery] = told(store).deliveries
    assert (delivery.state, delivery.error) == ("waiting", "the delivery failed: KeyError")
    assert "an alert was not delivered" in caplog.text


def test_the_thread_outlives_an_outage_of_the_store(webhook: Webhook, tmp_path: Path) -> None:
    """It says so, and delivers when the store is back."""
    outcomes: list[str] = []

    class Away(SQLiteStore):
        failures = 1

        def rows(self, statement: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
            if self.failures and "webhook_deliveries" in statement:
                self.failures -= 1
                raise OSError("away")
            return super().rows(statement, values)

    with Away(tmp_path / "store.db") as away:
        courier = Courier(away, allow_private=True, on_outcome=outcomes.append)
        courier.start()
        try:
            give_alert(away, webhook.url)
            deadline = time.monotonic() + 20
            while not outcomes and time.monotonic() < deadline:
                time.sleep(0.01)
        finally:
            courier.stop()
        give_alert(away, webhook.url)
        stopped = courier.deliver_due()

    assert outcomes == ["delivered"]
    assert stopped == 1
    assert len(webhook.received) == 1


def test_the_thread_delivers_and_ends(store: Store, webhook: Webhook) -> None:
    """As long as it is not stopped."""
    outcomes: list[str] = []
    courier = Courier(store, allow_private=True, on_outcome=outcomes.append)
    courier.start()
    try:
        give_alert(store, webhook.url)
        deadline = time.monotonic() + 20
        while not outcomes and time.monotonic() < deadline:
            time.sleep(0.01)
    finally:
        courier.stop()

    assert outcomes == ["delivered"]
