"""Ingest: what becomes of a body, and the server around it."""

from __future__ import annotations

import gzip
import json
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from starlette.applications import Starlette

from agentsight_tokens import Cycle
from agentsight_tokens.backend.app import create_app
from agentsight_tokens.backend.body import BodyLimits
from agentsight_tokens.backend.endpoint import Limits
from agentsight_tokens.backend.ingest import ingest
from agentsight_tokens.backend.store import SQLiteStore
from agentsight_tokens.cycle import encode_cycles
from tests.records import AT
from tests.server_kit import ask, cycle


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SQLiteStore]:
    with SQLiteStore(tmp_path / "store.db") as store:
        yield store


def changed(*cycles: Cycle, **changes: Any) -> dict[str, Any]:
    """Return a body with changes to its last cycle; `record=` changes that one's last record."""
    body = json.loads(encode_cycles(cycles))
    last = body["cycles"][-1]
    last["records"][-1].update(changes.pop("record", {}))
    last.update(changes)
    return body


def statuses(store: SQLiteStore, body: Mapping[str, Any]) -> list[str]:
    return [receipt.status for receipt in ingest(store, json.dumps(body).encode())]


def total(store: SQLiteStore) -> int:
    return store.rows("SELECT COALESCE(SUM(input_tokens), 0) FROM calls")[0][0]


def test_a_body_is_stored_once(store: SQLiteStore) -> None:
    """The same cycle again, or its records under another key, is accepted and adds nothing."""
    first = cycle("a", 1, 2)
    body = encode_cycles([first, cycle("b", 4)])
    assert [r.status for r in ingest(store, body)] == ["accepted", "accepted"]
    ingest(store, body)
    other = Cycle.of(
        first.records[:1], key="other", conversation_id="c", sealed_by="send", sealed_at=AT
    )
    assert ingest(store, encode_cycles([other]))[0].status == "accepted"

    assert total(store) == 7


def test_a_record_that_was_missing_is_stored_with_a_known_cycle(store: SQLiteStore) -> None:
    """A record counts by its own id, not by its cycle's key."""
    whole = cycle("a", 1, 2)
    ingest(store, encode_cycles([part_of(whole, 1)]))
    ingest(store, encode_cycles([whole]))

    assert total(store) == 3


def part_of(cycle: Cycle, records: int) -> Cycle:
    return Cycle.of(
        cycle.records[:records], key=cycle.key, conversation_id="c", sealed_by="send", sealed_at=AT
    )


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"version": 2}, "newer"),
        ({"calls": 7}, "7 calls"),
        ({"records": [], "calls": 0}, "0 calls"),
        ({"totals": {"total_tokens": 1}}, "sum up to 12"),
        ({"sealed_by": "nobody"}, "sealed_by"),
        ({"opened_at": "yesterday"}, "opened_at"),
        ({"records": [{"model": "no id"}]}, "id"),
        ({"record": {"at": "2026-01-01T00:00:00"}}, "offset"),
        ({"record": {"cost_pico_usd": 2**64 - 1}}, "too large"),
    ],
)
def test_a_bad_cycle_costs_no_other(
    store: SQLiteStore, changes: dict[str, Any], reason: str
) -> None:
    """It is rejected with the reason, and what stands beside it is stored."""
    good, bad = ingest(store, json.dumps(changed(cycle("a", 1), cycle("b", 4), **changes)).encode())

    assert (good.key, good.status) == ("a", "accepted")
    assert (bad.key, bad.status) == ("b", "rejected")
    assert reason in (bad.reason or "")
    assert total(store) == 1


@pytest.mark.parametrize(
    "record",
    [
        {"usage": {"input_tokens": -1}},
        {"usage": {"input_tokens": "many"}},
        {"at": "yesterday"},
        {"cost_pico_usd": 2**64 - 1},
    ],
)
def test_a_bad_record_costs_no_other(store: SQLiteStore, record: dict[str, Any]) -> None:
    """It is refused by its id, and the rest of its cycle is stored."""
    body = changed(cycle("a", 1), cycle("b", 4, 8, 16), record=record)

    good, partly = ingest(store, json.dumps(body).encode())

    assert good.status == partly.status == "accepted"
    assert [refused.id for refused in partly.refused] == ["b-16"]
    assert total(store) == 13


def test_a_cycle_that_is_none_is_rejected(store: SQLiteStore) -> None:
    """Whatever stands in the list, the others are stored."""
    body = changed(cycle("a", 1))
    body["cycles"] += [7, {"key": 5}, {"key": "k"}]

    assert statuses(store, body) == ["accepted", "rejected", "rejected", "rejected"]


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b'{"cycles": 1}', b'{"cycles": ["\xff"]}', b'{"cycles": [{"key": "\xff"}]}'],
)
def test_a_body_that_is_none_raises(store: SQLiteStore, body: bytes) -> None:
    """It is nobody's, so nothing can be said of its cycles."""
    with pytest.raises(msgspec.DecodeError):
        ingest(store, body)


def test_unknown_fields_are_passed(store: SQLiteStore) -> None:
    """A newer client may say more than this server knows."""
    body = changed(cycle("a", 1), extra={"x": 1}, record={"mood": "good"})

    assert statuses(store, body) == ["accepted"]


def request(
    app: Starlette,
    body: bytes,
    *,
    path: str = "/v1/cycles",
    method: str = "POST",
    **headers: str,
) -> tuple[int, dict[str, str], bytes]:
    return ask(app, method, path, body=body, **headers)


def test_the_server_acknowledges_what_it_stored(store: SQLiteStore) -> None:
    """The answer is the receipt; gzip is understood."""
    app = create_app(store)
    body = encode_cycles([cycle("a", 1)])
    status, _, answer = request(app, body)
    assert (status, json.loads(answer)) == (200, {"results": [{"key": "a", "status": "accepted"}]})

    status, _, _ = request(app, gzip.compress(body), content_encoding="gzip")
    assert status == 200
    assert request(app, b"", path="/healthz", method="GET")[2] == b"ok"


def test_the_server_wants_its_key(store: SQLiteStore) -> None:
    """Without the key, or with another one, nothing is stored."""
    app = create_app(store, api_key="right")
    body = encode_cycles([cycle("a", 1)])
    for given in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Bearer ü"}):
        status, headers, _ = request(app, body, **given)
        assert (status, headers["www-authenticate"]) == (401, "Bearer")
    assert total(store) == 0

    assert request(app, body, authorization="Bearer right")[0] == 200


def test_bodies_are_bounded(store: SQLiteStore) -> None:
    """Neither a long body nor a bomb fills the memory, and what is no body is refused."""
    app = create_app(store, limits=Limits(BodyLimits(1000, 10_000)))

    assert request(app, b"x" * 1001)[0] == 413
    assert request(app, gzip.compress(b"x" * 20_000), content_encoding="gzip")[0] == 413
    assert request(app, gzip.compress(b"{}")[:-9], content_encoding="gzip")[0] == 400
    assert request(app, b"{}", content_encoding="gzip")[0] == 400
    assert request(app, b"{}", content_encoding="br")[0] == 415
    assert request(app, b"{}")[0] == 400
    assert request(app, b"", method="GET")[0] == 405


def test_what_is_not_stored_is_not_acknowledged(tmp_path: Path) -> None:
    """A store that fails is unavailable, and the client is told to come again."""

    class Full(SQLiteStore):
        def ingest(self, cycles: object, *, project_id: int = 1) -> None:
            raise sqlite3.OperationalError("database or disk is full")

    with Full(tmp_path / "full.db") as store:
        status, headers, answer = request(create_app(store), encode_cycles([cycle("a", 1)]))

    assert (status, headers["retry-after"]) == (503, "1")
    assert json.loads(answer)["error"] == {"code": "unavailable", "message": "OperationalError"}
