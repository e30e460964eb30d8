"""The analytics over HTTP: what is answered, page by page and as files."""

from __future__ import annotations

import csv
import io
import json
import sys
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import msgspec
import pytest
from dirty_equals import IsPartialDict
from starlette.applications import Starlette
from starlette.convertors import CONVERTOR_TYPES

from agentsight_tokens import Scope, TokenUsage
from agentsight_tokens.backend.accounts import Accounts
from agentsight_tokens.backend.analytics import (
    Anomalies,
    CacheReport,
    Conversation,
    ExpensiveOperations,
    Forecast,
    Recommendations,
    SpeedReport,
    TopSpenders,
    Trend,
    cache_use,
    conversation,
    every_call,
    expensive_operations,
    forecast,
    newest_calls,
    recommendations,
    speed,
    top_spenders,
    trend,
)
from agentsight_tokens.backend.app import create_app
from agentsight_tokens.backend.endpoint import Endpoint
from agentsight_tokens.backend.export import exported
from agentsight_tokens.backend.routes import ENDPOINTS
from agentsight_tokens.backend.routes.selection import Selection
from agentsight_tokens.backend.store import DEFAULT_PROJECT_ID, SQLiteStore, Store
from agentsight_tokens.backend.wire import wire, wire_type
from agentsight_tokens.errors import ConfigurationError
from agentsight_tokens.rows import CALL_FIELDS, call_row, csv_cell, written
from tests.analytics_kit import keep, one_cycle
from tests.records import AT, call
from tests.server_kit import Answer, ask
from tests.store_kit import postgresql, store

__all__ = ["postgresql", "store"]

UTC = timezone.utc
SELECTING = [e for e in ENDPOINTS if e.query is not None and issubclass(e.query, Selection)]
QUESTIONS = [*SELECTING, *(e for e in ENDPOINTS if e.path.startswith("/v1/conversations/"))]


def named(endpoint: Endpoint) -> str:
    return endpoint.path


@pytest.fixture
def app(store: Store) -> Starlette:
    """A server in whose store two users have talked."""
    ana = Scope(conversation_id="trip/1", session_id="s", user_id="ana", tags=("x", "y"))
    keep(
        store,
        call(1, id="a", scope=ana, cost_pico_usd=10**10, duration_seconds=2.0),
        call(2, id="b", scope=ana, model="mine", cost_pico_usd=None, cost_status="unpriced"),
        call(3, id="c", conversation="other", status="error", cost_pico_usd=7),
        call(
            4,
            id="d",
            conversation="other",
            usage=TokenUsage(),
            cost_pico_usd=None,
            unreported_reason="stream_without_usage",
        ),
        environment="test",
    )
    return create_app(store)


def get(app: Starlette, path: str, **query: Any) -> Answer:
    return ask(app, "GET", path, query=urlencode(query, doseq=True), host="localhost")


def got(app: Starlette, path: str, **query: Any) -> Any:
    answer = get(app, path, **query)
    assert answer.status == 200, answer.body
    return answer.json


def test_usage(app: Starlette) -> None:
    """Rows have their keys, every counter and the cost with every digit."""
    body = got(app, "/v1/usage", by="conversation,model")

    assert body["by"] == ["conversation_id", "model"]
    assert body["rows"][0] == IsPartialDict(
        conversation_id="trip/1", model="gpt-4o", calls=1, input_tokens=1, cost_usd="0.01"
    )
    assert body["total"] == IsPartialDict(
        calls=4,
        input_tokens=6,
        cost_usd="0.010000000007",
        unpriced_calls=1,
        unpriced_tokens=6,
        unreported_calls=1,
    )
    assert len(got(app, "/v1/usage", by=["conversation", "model"], limit=1)["rows"]) == 1
    assert got(app, "/v1/usage", by=["conversation", "model"], limit=1)["total"] == body["total"]


@pytest.mark.parametrize(
    ("query", "calls"),
    [
        ({"user_id": "ana"}, 2),
        ({"tag": "x"}, 2),
        ({"tag": ["x", "y"]}, 2),
        ({"tag": ["x", "z"]}, 0),
        ({"model": "mine"}, 1),
        ({"model": ""}, 4),
        ({"status": "error"}, 1),
        ({"environment": "test"}, 4),
        ({"environment": "production"}, 0),
        ({"conversation_id": "trip/1"}, 2),
        ({"conversation_id": "a\0b"}, 0),
        ({"since": "2026-01-02", "until": "2026-01-03"}, 4),
        ({"since": "2026-01-03"}, 0),
        ({"since": "2026-01-02", "timezone": "Asia/Tokyo"}, 4),
        ({"until": "2026-01-02", "timezone": "America/New_York"}, 4),
        ({"until": "2026-01-02"}, 0),
        ({"since": "2026-01-02T04:04:07+01:00"}, 3),
        ({"since": "2026-01-02T04:04+01:00", "until": "2026-01-02T03:05Z"}, 4),
        ({"since": "2026-01-02T03:04:07Z", "until": "2026-01-02T03:04:08.5Z"}, 1),
    ],
)
def test_a_query_selects(app: Starlette, query: dict[str, Any], calls: int) -> None:
    """Each parameter selects as its name says; days are those of the zone."""
    assert got(app, "/v1/usage", **query)["total"]["calls"] == calls
    assert len(got(app, "/v1/calls", **query)["rows"]) == calls


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"since": "yesterday"}, "since: 'yesterday' is no time; write a day (2026-01-31)"),
        ({"until": "2026-01-02T03:04:05"}, "until: '2026-01-02T03:04:05' is no time"),
        ({"since": "1999-12-31"}, "since must lie in the years 2000 to 2199"),
        ({"since": "0001-01-01T00:00:00+14:00"}, "since must lie in the years 2000 to 2199"),
        ({"since": "2026-01-02", "until": "2026-01-02"}, "until '2026-01-02' is not after since"),
        ({"timezone": "Mars"}, "timezone: 'Mars' is no time zone; one is 'Europe/Zurich'"),
        ({"timezone": "../../etc/passwd"}, "is no time zone"),
        ({"timezone": "x" * 5_000}, "is no time zone"),
        ({"colour": "red"}, "'colour' is no parameter here"),
        ({"status": "odd"}, "the query: Invalid enum value 'odd'"),
        ({"model": "x" * 2_001}, "the query: Expected `str` of length <= 2000"),
    ],
)
def test_what_selects_nothing_is_refused(
    tmp_path: Path, query: dict[str, Any], message: str
) -> None:
    """Every question says in the same words what it cannot read."""
    with SQLiteStore(tmp_path / "store.db") as store:
        app = create_app(store)
        for endpoint in SELECTING:
            answer = get(app, endpoint.path, **query)

            assert answer.status == 400
            assert message in answer.message


@pytest.mark.parametrize(
    ("path", "query", "message"),
    [
        ("/v1/usage", {"by": "colour"}, "'colour' is nothing to group by; known are"),
        ("/v1/usage", {"by": "a,b,c,d,e"}, "by: at most 4 keys at once, not 5"),
        ("/v1/usage", {"limit": 0}, "the query: Expected `int` >= 1"),
        ("/v1/speed", {"by": "colour"}, "'colour' is nothing to group by"),
        ("/v1/top", {"by": "colour"}, "'colour' is nothing to group by"),
        ("/v1/trend", {"period": "minute"}, "the query: Invalid enum value 'minute'"),
        ("/v1/trend", {"period": "hour", "since": "2000-01-01"}, "at most 2,000 are answered"),
        ("/v1/anomalies", {"by": "week"}, "'week' is a period"),
        ("/v1/anomalies", {"since": "2000-01-01"}, "at most 366 are judged"),
        ("/v1/conversations", {"order": "oldest"}, "the query: Invalid enum value 'oldest'"),
        ("/v1/conversations", {"cursor": "AAAA"}, "the cursor 'AAAA' is none of this list"),
        ("/v1/calls", {"cursor": "\0"}, "is none of this list in this order"),
        ("/v1/calls", {"limit": 1_001}, "the query: Expected `int` <= 1000"),
        ("/v1/export", {"format": "xlsx"}, "the query: Invalid enum value 'xlsx'"),
    ],
)
def test_wrong_questions_are_told(
    tmp_path: Path, path: str, query: dict[str, Any], message: str
) -> None:
    """What is wrong is named, with what would be right."""
    with SQLiteStore(tmp_path / "store.db") as store:
        answer = get(create_app(store), path, **query)

    assert answer.status == 400
    assert message in answer.message


def test_pages(app: Starlette) -> None:
    """`next_cursor` leads to the next page, and the last page has none."""
    for path, key in (("/v1/calls", "id"), ("/v1/conversations", "conversation_id")):
        whole = [row[key] for row in got(app, path)["rows"]]
        found, cursor = [], None
        while True:
            page = got(app, path, limit=1, **({"cursor": cursor} if cursor else {}))
            found += [row[key] for row in page["rows"]]
            cursor = page["next_cursor"]
            if cursor is None:
                break
        assert found == whole
    assert [row["conversation_id"] for row in got(app, "/v1/conversations")["rows"]] == [
        "other",
        "trip/1",
    ]


@pytest.mark.parametrize("name", ["trip/1", "a b", "ü?&#%2F", "line\nend", "..", "x" * 900])
def test_a_conversation_of_any_name(app: Starlette, store: Store, name: str) -> None:
    """A name is found whatever it holds, as it stands in the path."""
    keep(store, call(5, conversation=name))

    body = ask(app, "GET", f"/v1/conversations/{name}", host="localhost").json

    assert body["summary"]["conversation_id"] == name
    assert body["cycle_count"] >= 1
    usage = [cycle["usage"]["input_tokens"] for cycle in body["cycles"]]
    assert sum(usage) == body["summary"]["usage"]["input_tokens"]
    assert CONVERTOR_TYPES["anything"].to_string(name) == name
    missing = ask(app, "GET", f"/v1/conversations/{name}\0", host="localhost")
    assert missing.status == 404


def test_results_are_as_documented(app: Starlette, store: Store) -> None:
    """What the functions return is what their documented types can hold, money as text."""
    now = datetime(2026, 1, 2, 12, tzinfo=UTC)
    results = {
        Trend: trend(store, now=now),
        TopSpenders: top_spenders(store),
        ExpensiveOperations: expensive_operations(store),
        CacheReport: cache_use(store),
        Forecast: forecast(store, now=now),
        Recommendations: recommendations(store, now=now),
        Conversation: conversation(store, "trip/1"),
        SpeedReport: speed(store, ["user"]),
    }
    for kind, result in results.items():
        encoded = msgspec.json.encode(wire(result))
        msgspec.json.decode(encoded, type=wire_type(kind))
        assert b"pico" not in encoded
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(wire(results[Trend]), wire_type(Anomalies))
    top = got(app, "/v1/top", by="user")
    assert top["spenders"][0] == IsPartialDict(name="ana", cost_per_call_usd="0.01")
    assert got(app, "/v1/speed", by="status")["total"]["failed_calls"] == 1
    assert got(app, "/v1/expensive")["calls"][0]["call"]["id"] == "a"
    assert got(app, "/v1/forecast")["spend_usd"] is None
    kinds = {each["kind"] for each in got(app, "/v1/recommendations")["found"]}
    assert kinds == {"price_models", "report_streams", "paid_failures"}


def test_a_forecast_in_usd(app: Starlette, store: Store) -> None:
    """All four figures of a projection of money are texts in USD."""
    now = datetime.now(UTC).replace(hour=1, minute=0)
    days = [call(1, at=now - timedelta(days=n), cost_pico_usd=10**12) for n in range(1, 40)]
    store.ingest([one_cycle(days)])

    found = got(app, "/v1/forecast")

    assert Decimal(found["spend_usd"]["expected"]) >= Decimal(found["spend_usd"]["so_far"]) >= 0
    assert found["spend_usd"]["low"] == found["spend_usd"]["high"]
    assert isinstance(found["tokens"]["expected"], int)


def test_csv_is_safe_in_a_spreadsheet(app: Starlette, store: Store) -> None:
    """What a spreadsheet would run as a formula is marked as a text; all else is as it is."""
    keep(store, call(9, conversation="=HYPERLINK(1)", model="+1", tool_name='a,b\n"c"'))

    answer = get(app, "/v1/export", format="csv")

    assert answer.headers["content-type"].startswith("text/csv")
    assert answer.headers["content-disposition"] == 'attachment; filename="calls.csv"'
    rows = list(csv.DictReader(io.StringIO(answer.body.decode())))
    assert tuple(rows[0]) == CALL_FIELDS
    assert [row["id"] for row in rows[:4]] == ["a", "b", "c", "d"]
    assert rows[0] == IsPartialDict(cost_usd="0.01", tags="x y", conversation_id="trip/1")
    assert rows[1]["cost_usd"] == ""
    assert rows[4] == IsPartialDict(
        conversation_id="'=HYPERLINK(1)", model="'+1", tool_name='a,b\n"c"'
    )
    for text in ("=1", "+1", "-1", "@x", "\tx", "\rx"):
        assert csv_cell(text) == f"'{text}"
    assert csv_cell(-1.5) == -1.5
    assert csv_cell(("=a", "b")) == "'=a b"


def test_json_lines(app: Starlette, store: Store) -> None:
    """Each line is a call, with money as text."""
    answer = get(app, "/v1/export", format="jsonl", user_id="ana")

    lines = [json.loads(line) for line in answer.body.splitlines()]
    first = next(iter(newest_calls(store, where={"model": "gpt-4o", "user_id": "ana"})))
    assert lines[0] == json.loads(msgspec.json.encode(written(call_row(first))))
    assert [line["id"] for line in lines] == ["a", "b"]
    assert get(app, "/v1/export", format="jsonl", user_id="nobody").body == b""


def test_parquet(app: Starlette, store: Store, tmp_path: Path) -> None:
    """Columns have types: times, lists, whole numbers and exact decimals."""
    parquet = pytest.importorskip("pyarrow.parquet")

    answer = get(app, "/v1/export", format="parquet")
    empty = get(app, "/v1/export", format="parquet", user_id="nobody")

    table = parquet.read_table(io.BytesIO(answer.body))
    assert tuple(table.column_names) == CALL_FIELDS
    [first, second, *_] = table.to_pylist()
    assert first == IsPartialDict(
        id="a",
        at=AT + timedelta(seconds=1),
        tags=["x", "y"],
        input_tokens=1,
        cost_usd=Decimal("0.01"),
        duration_seconds=2.0,
        error_type=None,
    )
    assert second["cost_usd"] is None
    assert parquet.read_table(io.BytesIO(empty.body)).num_rows == 0


def test_exports_come_in_pieces(store: Store) -> None:
    """A file is handed on while it is read, however many calls there are."""
    parquet = pytest.importorskip("pyarrow.parquet")
    store.ingest([one_cycle([call(n) for n in range(2_500)])])

    for export_format in ("csv", "jsonl"):
        pieces = list(exported(every_call(store), export_format))  # type: ignore[arg-type]  # of two
        assert len(pieces) >= 3
        assert max(map(len, pieces)) < 1_000_000
        lines = b"".join(pieces).count(b"\n")
        assert lines == 2_500 + (export_format == "csv")
    many = (record for _ in range(10) for record in every_call(store))
    pieces = list(exported(many, "parquet"))
    assert len(pieces) == 6
    assert parquet.read_table(io.BytesIO(b"".join(pieces))).num_rows == 25_000


def test_parquet_needs_its_library(app: Starlette, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is not installed, the message says how to get it."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)

    with pytest.raises(ConfigurationError, match=r"pip install 'agentsight-tokens\[arrow\]'"):
        exported([], "parquet")
    answer = get(app, "/v1/export", format="parquet")
    assert answer.status == 400
    assert "pip install" in answer.message


@pytest.fixture
def keys(store: Store) -> dict[str, str]:
    """Keys of the project in which the calls are, and of another."""
    accounts = Accounts(store)
    other = accounts.project("other").id
    return {
        "own": accounts.create_key(DEFAULT_PROJECT_ID, name="own", scopes=["read"])[1],
        "other": accounts.create_key(other, name="other", scopes=["read"])[1],
        "ingest": accounts.create_key(DEFAULT_PROJECT_ID, name="in", scopes=["ingest"])[1],
    }


@pytest.mark.parametrize("endpoint", QUESTIONS, ids=named)
def test_another_project_has_nothing_of_it(
    app: Starlette, keys: dict[str, str], endpoint: Endpoint
) -> None:
    """Whatever is asked for by name, a key sees its own project; one that sends sees nothing."""
    path = endpoint.path.partition("{")[0]
    path += "trip/1" if path != endpoint.path else ""
    query = ""
    if endpoint.query is not None:
        query = urlencode({"conversation_id": "trip/1", "user_id": "ana"})

    own = ask(app, "GET", path, key=keys["own"], query=query)
    other = ask(app, "GET", path, key=keys["other"], query=query)

    assert own.status == 200
    assert ask(app, "GET", path, key=keys["ingest"], query=query).status == 403
    assert other.status == (200 if endpoint.query is not None else 404)
    for mark in (b"mine", b"0.01", b'"a"'):
        assert mark not in other.body


def test_cursors_open_nothing(app: Starlette, keys: dict[str, str]) -> None:
    """A cursor of one project is only a position in another."""
    page = ask(app, "GET", "/v1/calls", key=keys["own"], query="limit=1").json

    query = f"limit=10&cursor={quote(page['next_cursor'])}"
    assert ask(app, "GET", "/v1/calls", key=keys["other"], query=query).json["rows"] == []
    assert len(ask(app, "GET", "/v1/calls", key=keys["own"], query=query).json["rows"]) == 3


ODD_TEXTS = ["a\0b", "%s ?", "\\'\";--", "\U0001d54f" * 2_000, "\ufffe"]
TEXT_FIELDS = ["conversation_id", "user_id", "tag", "model"]


@pytest.mark.parametrize("endpoint", SELECTING, ids=named)
def test_no_text_breaks_a_question(app: Starlette, endpoint: Endpoint) -> None:
    """Whatever a name holds, it is compared and nothing else: nobody has it."""
    texts = [
        *({field: text} for field in TEXT_FIELDS for text in ODD_TEXTS),
        dict.fromkeys(TEXT_FIELDS, ODD_TEXTS[0]),
    ]
    for query in texts:
        answer = get(app, endpoint.path, **query)

        assert answer.status == 200, (query, answer.body)
        assert b"trip/1" not in answer.body
