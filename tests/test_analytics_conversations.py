"""Conversations and calls, page by page."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentsight_tokens import Scope, TokenUsage, UsageRecord
from agentsight_tokens.backend.accounts import Accounts
from agentsight_tokens.backend.analytics import (
    CONVERSATION_ORDERS,
    ConversationOrder,
    calls_page,
    conversation,
    conversations,
    every_call,
)
from agentsight_tokens.backend.store import Reader, Store
from agentsight_tokens.errors import InvalidQueryError, InvalidScopeError
from agentsight_tokens.ids import time_ordered_id
from tests.analytics_kit import keep, one_cycle
from tests.records import AT, call
from tests.store_kit import postgresql, store

__all__ = ["postgresql", "store"]


def names(
    reader: Reader, order: ConversationOrder, *, limit: int = 50, **where: object
) -> list[str]:
    """Return the conversations of all pages."""
    found: list[str] = []
    cursor = None
    while True:
        page = conversations(reader, where=where, order=order, limit=limit, cursor=cursor)
        assert len(page.rows) <= limit
        found += [row.conversation_id for row in page.rows]
        cursor = page.next_cursor
        if cursor is None:
            return found
        assert len(page.rows) == limit


def test_a_conversation_tells_who_when_and_how_much(store: Store) -> None:
    """A row has the conversation's user, its first and last call and its usage."""
    ana = Scope(conversation_id="trip", user_id="ana")
    keep(
        store,
        call(1, scope=ana),
        call(5, scope=ana, usage=TokenUsage(), unreported_reason="cancelled", cost_pico_usd=None),
        call(3, scope=ana, cost_pico_usd=None, cost_status="unpriced"),
    )

    [row] = conversations(store).rows

    assert row[:4] == ("trip", "ana", AT + timedelta(seconds=1), AT + timedelta(seconds=5))
    assert row.usage.request_count == 3
    assert row.usage.cost_pico_usd == 7
    assert row.usage.unpriced_calls == row.usage.unreported_calls == 1


def test_the_user_is_the_latest_one(store: Store) -> None:
    """A conversation has the user of its latest call that names one, whatever is selected."""
    keep(
        store,
        call(1, scope=Scope(conversation_id="both", user_id="ana")),
        call(2, scope=Scope(conversation_id="both", user_id="ben")),
        call(3, conversation="both"),
        call(1, conversation="none"),
    )

    for where in ({}, {"model": "gpt-4o"}):
        found = conversations(store, where=where).rows
        assert {row.conversation_id: row.user_id for row in found} == {"both": "ben", "none": None}


def test_orders(store: Store) -> None:
    """The newest, the costliest and the largest come first, each page by page."""
    large = TokenUsage(input_tokens=900)
    keep(
        store,
        call(1, conversation="large", usage=large, cost_pico_usd=None),
        call(2, conversation="costly", cost_pico_usd=10**13),
        call(3, conversation="new"),
    )

    for limit in (1, 2, 3, 50):
        assert names(store, "newest", limit=limit) == ["new", "costly", "large"]
        assert names(store, "costliest", limit=limit) == ["costly", "new", "large"]
        assert names(store, "largest", limit=limit) == ["large", "new", "costly"]
        assert names(store, "largest", limit=limit, status="ok") == ["large", "new", "costly"]
        assert names(store, "costliest", limit=limit, status="ok") == ["costly", "new", "large"]


def test_times_select_conversations_by_their_last_call(store: Store) -> None:
    """A conversation is of the time at which it ended, and counted whole."""
    keep(store, call(1), call(5), call(3, conversation="d"), call(9, conversation="e"))
    span = {"since": AT + timedelta(seconds=4), "until": AT + timedelta(seconds=9)}

    for order in CONVERSATION_ORDERS:
        [row] = conversations(store, where=span, order=order).rows
        assert (row.conversation_id, row.usage.input_tokens) == ("c", 6)
    [row] = conversations(store, where={**span, "model": "gpt-4o"}).rows
    assert (row.conversation_id, row.usage.input_tokens) == ("c", 5)
    assert names(store, "newest", session_id="d") == ["d"]


def test_filters_select_calls_of_conversations(store: Store) -> None:
    """Only what the filter selects is added up, and a conversation without any is not there."""
    keep(store, call(1, model="a"), call(2, model="b"), call(4, conversation="d", model="b"))
    keep(store, call(8, conversation="e", model="a"), environment="production")

    found = conversations(store, where={"model": "a"}).rows

    assert [(row.conversation_id, row.usage.input_tokens) for row in found] == [("e", 8), ("c", 1)]
    assert names(store, "newest", environment="production") == ["e"]


COSTS = st.sampled_from([None, 0, 10**6, 2 * 10**6, 10**12, 2**42 * 10**6])


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=10, deadline=None
)
@given(
    facts=st.lists(
        st.tuples(
            st.sampled_from(["a", "b", "c/d", "ü", "x y", "..", "Z", "\U0001f41d"]),
            st.integers(0, 3),
            COSTS,
        ),
        min_size=1,
        max_size=20,
    ),
    limit=st.integers(1, 4),
)
@pytest.mark.parametrize("order", CONVERSATION_ORDERS)
def test_pages_are_the_list_cut_up(
    store: Store, order: ConversationOrder, facts: list[tuple[str, int, int | None]], limit: int
) -> None:
    """Whatever ties there are, pages repeat nothing and leave nothing out."""
    project = Accounts(store).project(time_ordered_id()).id
    records = [call(n, conversation=name, cost_pico_usd=cost) for name, n, cost in facts]
    keep(store, *records, project_id=project)
    of_project = store.of_project(project)

    paged = names(of_project, order, limit=limit)

    assert paged == names(of_project, order, limit=limit, status="ok")
    assert paged == [row.conversation_id for row in conversations(of_project, order=order).rows]
    assert sorted(paged) == sorted({name for name, _, _ in facts})
    rows = {row.conversation_id: row for row in conversations(of_project, order=order).rows}
    keys = {
        "newest": lambda row: row.last_at,
        "costliest": lambda row: row.usage.cost_pico_usd,
        "largest": lambda row: row.usage.total_tokens,
    }
    values = [keys[order](rows[name]) for name in paged]
    assert values == sorted(values, reverse=True)


def test_new_conversations_do_not_move_a_page(store: Store) -> None:
    """What comes while somebody reads is in front of where they read."""
    keep(store, *(call(n, conversation=f"c{n}") for n in range(4)))
    first = conversations(store, limit=2)

    keep(store, call(9, conversation="c9"), call(8, conversation="c3"))
    second = conversations(store, limit=2, cursor=first.next_cursor)

    assert [row.conversation_id for row in first.rows] == ["c3", "c2"]
    assert [row.conversation_id for row in second.rows] == ["c1", "c0"]
    assert second.next_cursor is None


def test_one_conversation_has_its_cycles(store: Store) -> None:
    """Cycles come with their usage, the newest first, and add up to the conversation."""
    store.ingest(
        [
            one_cycle([call(1, id="a"), call(2, id="b")], environment="test"),
            one_cycle([call(4, id="c")]),
            one_cycle([call(8, id="d", conversation="other")]),
        ]
    )

    found = conversation(store, "c")

    assert found is not None
    assert found.cycle_count == 2
    assert [cycle.key for cycle in found.cycles] == ["cycle-c", "cycle-a"]
    assert [cycle.usage.input_tokens for cycle in found.cycles] == [4, 3]
    assert found.summary.usage.input_tokens == 7
    newest, oldest = found.cycles
    assert (oldest.sealed_by, oldest.sealed_at, oldest.environment) == ("send", AT, "test")
    assert oldest.opened_at == AT + timedelta(seconds=1)
    assert newest.environment is None


def test_a_conversation_of_another_project_is_none(store: Store) -> None:
    """A cycle key that two projects have is two cycles, and what is not there is None."""
    other = Accounts(store).project("other").id
    store.ingest([one_cycle([call(1, id="a")], environment="mine")])
    store.ingest([one_cycle([call(2, id="a")], environment="theirs")], project_id=other)

    found = conversation(store.of_project(other), "c")

    assert found is not None
    assert [cycle.environment for cycle in found.cycles] == ["theirs"]
    assert found.summary.usage.input_tokens == 2
    assert conversation(store.of_project(other), "nowhere") is None


@pytest.mark.parametrize("name", ["a\0b", "\0", "é", "a/b?c#d%e", "'; DROP TABLE calls; --"])
def test_any_name_can_be_asked_for(store: Store, name: str) -> None:
    """A name that the store cannot hold is one that it has nothing of."""
    if store.dialect.name == "sqlite" or "\0" not in name:
        keep(store, call(1, conversation=name))
        found = conversation(store, name)
        assert found is not None
        assert found.summary.conversation_id == name
    else:
        assert conversation(store, name) is None
    assert calls_page(store, where={"tags": ["\0"]}).rows == ()


def pages_of_calls(reader: Reader, limit: int, **where: object) -> list[UsageRecord]:
    found: list[UsageRecord] = []
    page = calls_page(reader, where=where, limit=limit)
    while True:
        found += page.rows
        if page.next_cursor is None:
            return found
        page = calls_page(reader, where=where, limit=limit, cursor=page.next_cursor)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=10, deadline=None
)
@given(numbers=st.lists(st.integers(0, 4), max_size=20), limit=st.integers(1, 5))
def test_pages_of_calls(store: Store, numbers: list[int], limit: int) -> None:
    """Calls come newest first, whichever of them ended at the same time."""
    project = Accounts(store).project(time_ordered_id()).id
    records = [call(n) for n in numbers]
    keep(store, *records, project_id=project)
    of_project = store.of_project(project)

    ordered = sorted(records, key=lambda record: (record.at, record.id))
    assert pages_of_calls(of_project, limit) == ordered[::-1]
    assert list(every_call(of_project)) == ordered
    until = AT + timedelta(seconds=3)
    assert list(every_call(of_project, {"until": until})) == [r for r in ordered if r.at < until]


def test_every_call_is_read_in_parts(store: Store) -> None:
    """More calls than are in memory at once come all, once, in order."""
    records = [call(n // 7) for n in range(2_500)]
    store.ingest([one_cycle(records)])

    found = [record.id for record in every_call(store)]

    assert found == [r.id for r in sorted(records, key=lambda r: (r.at, r.id))]


def forged(cursor: str) -> list[str]:
    """Return cursors that nobody was given."""
    content = urlsafe_b64decode(cursor)
    turned = content[:-2] + bytes([content[-2] ^ 1]) + content[-1:]
    return [
        "",
        "x",
        "ü",
        "AAAA",
        cursor[:-4],
        cursor + "AAAA",
        urlsafe_b64encode(turned).decode(),
        urlsafe_b64encode(b"[1,2]").decode(),
    ]


def test_cursors_are_checked(store: Store) -> None:
    """A cursor that is changed, cut or of another list or order is refused, and says so."""
    keep(store, *(call(n, conversation=f"c{n}") for n in range(3)))
    cursor = conversations(store, limit=1).next_cursor
    of_calls = calls_page(store, limit=1).next_cursor
    assert cursor is not None
    assert of_calls is not None

    for bad in [*forged(cursor), of_calls]:
        with pytest.raises(InvalidQueryError, match=r"the cursor .* is none of this list"):
            conversations(store, cursor=bad)
    for bad in [*forged(of_calls), cursor]:
        with pytest.raises(InvalidQueryError, match=r"the cursor .* is none of this list"):
            calls_page(store, cursor=bad)
    with pytest.raises(InvalidQueryError, match="is none of this list"):
        conversations(store, order="largest", cursor=cursor)


def test_what_cannot_be_asked(store: Store) -> None:
    """The message names what was asked, and what can be."""
    for limit in (0, -1, 1_001):
        with pytest.raises(InvalidQueryError, match=f"between 1 and 1,000, not {limit}"):
            conversations(store, limit=limit)
        with pytest.raises(InvalidQueryError, match=f"between 1 and 1,000, not {limit}"):
            calls_page(store, limit=limit)
    with pytest.raises(InvalidQueryError, match=r"'oldest' is no order .* newest, costliest"):
        conversations(store, order="oldest")  # type: ignore[arg-type]
    with pytest.raises(InvalidScopeError, match="'colour' is no filter"):
        every_call(store, {"colour": "red"})
