"""The scope in force."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from agentsight_tokens import scope
from agentsight_tokens.errors import InvalidScopeError
from agentsight_tokens.scope import ScopeEntry, current_attribution, tool_in_force, tool_scope


def conversation(name: str) -> ScopeEntry:
    return ScopeEntry(None, {"conversation_id": name})


def current() -> str | None:
    return current_attribution().scope.conversation_id


def steps(name: str) -> Iterator[None]:
    with conversation(name):
        for _ in range(3):
            assert current() == name
            yield
            assert current() == name


async def async_steps(name: str) -> AsyncIterator[None]:
    with conversation(name):
        for _ in range(3):
            await asyncio.sleep(0)
            assert current() == name
            yield
            assert current() == name


def in_thread(function: Callable[[], object]) -> None:
    thread = threading.Thread(target=function)
    thread.start()
    thread.join()


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """No test leaves a scope behind."""
    yield
    gc.collect()
    assert current() is None
    assert not scope._entered_by_generators


def test_outside_any_scope_nobody_is_named() -> None:
    """There is a scope everywhere; it is empty where none was entered."""
    assert current() is None
    assert current_attribution().owner is None


def test_inner_scopes_inherit_what_they_do_not_name() -> None:
    """Nesting adds fields and replaces those that are named, and leaving takes them back."""
    with ScopeEntry("tracker", {"conversation_id": "a", "user_id": "u"}):
        with ScopeEntry(None, {"agent": "x", "conversation_id": "b"}):
            inner = current_attribution()
        assert current() == "a"

    assert inner.owner == "tracker"
    assert (inner.scope.conversation_id, inner.scope.user_id, inner.scope.agent) == ("b", "u", "x")


def test_wrong_fields_raise_where_they_are_written() -> None:
    """A bad field raises when the scope is made, not when it is entered."""
    with pytest.raises(InvalidScopeError, match="'who'"):
        ScopeEntry(None, {"who": "x"})


def test_threads_have_their_own_scope() -> None:
    """A bare thread begins outside any scope."""
    seen = []
    with conversation("a"):
        in_thread(lambda: seen.append(current()))

    assert seen == [None]


def test_suspended_generators_do_not_colour_their_consumer() -> None:
    """Two interleaved generators and their consumer each keep their own scope."""
    with conversation("outer"):
        a, b = steps("a"), steps("b")
        next(a)
        assert current() == "outer"
        next(b)
        next(a)
        with conversation("inner"):
            next(a)
            assert current() == "inner"
        list(a)
        list(b)
        assert current() == "outer"


def test_generators_keep_their_scope_when_drained_elsewhere() -> None:
    """Drained in another thread, or in a copied context, a generator has its own scope."""
    a, b = steps("a"), steps("b")
    next(a)
    in_thread(lambda: list(a))
    contextvars.copy_context().run(next, b)
    in_thread(lambda: list(b))

    assert current() is None


def test_abandoned_generators_take_their_scope_with_them() -> None:
    """A generator that the garbage collector closes leaves nothing behind."""
    generator = steps("a")
    next(generator)
    del generator
    gc.collect()

    assert current() is None


def test_a_scope_inside_a_generators_scope_wins() -> None:
    """Within one generator the inner scope is in force, also in another thread."""

    def nested() -> Iterator[str | None]:
        with conversation("outer"):
            with conversation("inner"):
                yield current()
                yield current()
            yield current()

    generator = nested()
    seen = [next(generator)]
    in_thread(lambda: seen.extend(generator))

    assert seen == ["inner", "inner", "outer"]


def test_what_a_thread_left_closed_does_not_reach_new_tasks() -> None:
    """A scope that was closed elsewhere is in force nowhere."""
    generator = steps("a")
    next(generator)
    in_thread(lambda: list(generator))

    async def look() -> str | None:
        return await asyncio.create_task(asyncio.sleep(0, current()))

    assert asyncio.run(look()) is None


def test_tasks_keep_the_scope_they_were_made_in() -> None:
    """A task outlives the block that made it and keeps its scope."""

    async def later() -> str | None:
        await asyncio.sleep(0.01)
        return current()

    async def main() -> tuple[str | None, str | None]:
        with conversation("a"):
            task = asyncio.create_task(later())
            inside = await asyncio.to_thread(current)
        assert current() is None
        return inside, await task

    assert asyncio.run(main()) == ("a", "a")


def test_async_generators_keep_to_themselves() -> None:
    """Interleaved async generators and their consumer each keep their own scope."""

    async def main() -> None:
        with conversation("outer"):
            a, b = async_steps("a"), async_steps("b")
            await anext(a)
            await anext(b)
            assert current() == "outer"
            async for _ in a:
                assert current() == "outer"
            async for _ in b:
                assert current() == "outer"

    asyncio.run(main())


def test_tools_are_named_inside_their_block() -> None:
    """The tool in force is that of the innermost block."""
    with tool_scope("search"):
        assert tool_in_force() == "search"

    assert tool_in_force() is None
