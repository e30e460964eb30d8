"""
The scope in force: who causes the calls that start now.

A `ContextVar` alone is not enough. A generator shares its consumer's context, so a scope
entered in one that is suspended would colour the consumer's calls; and one that is closed
elsewhere, by another thread or the garbage collector, could not be taken back. Every entry
therefore knows where it was entered, and is looked up as follows: in the thread and task
that entered it, it holds while it is open and its generator is not suspended; in a context
copied from there, as by a new task, it holds for as long as that context lives; and below a
generator that entered one it holds in every context, because each step of a generator may
run in another.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from threading import get_ident
from types import FrameType, TracebackType
from typing import Final, NamedTuple

from .usage import Scope

__all__ = ["Attribution", "ScopeEntry", "current_attribution", "tool_in_force", "tool_scope"]


class Attribution(NamedTuple):
    """A scope and the tracker in whose name it was entered."""

    scope: Scope
    owner: object | None


# inspect.CO_GENERATOR and CO_ASYNC_GENERATOR; importing inspect would cost more than this module.
_GENERATOR_FLAGS: Final = 0x20 | 0x200
_NOBODY: Final = Attribution(Scope(), None)


class ScopeEntry:
    """
    A scope to enter and leave again, as a context manager.

    Fields that are not given are taken from the scope in force when it is entered.
    """

    __slots__ = (
        "_fields",
        "_is_open",
        "_owner",
        "_task",
        "_thread",
        "attribution",
        "frame",
        "is_void",
        "parent",
    )

    def __init__(self, owner: object | None, fields: dict[str, object]) -> None:
        Scope().replace(**fields)  # wrong use raises here, not at the `with`
        self._owner = owner
        self._fields = fields
        self.parent: ScopeEntry | None = None
        """The entry that was in force when this one was entered."""
        self.frame: FrameType | None = None
        """The generator that entered it, if one did."""
        self.attribution = _NOBODY
        """The whole scope, known once it is entered."""
        self._is_open = False
        self.is_void = False
        """Closed where the context that entered it cannot be reached."""

    def enter(self, *, depth: int = 1) -> None:
        """Put the scope in force for the caller `depth` frames up."""
        frame = sys._getframe(depth)  # noqa: SLF001  # no public way tells who enters
        self.parent = _entry_in_force()
        self._thread = get_ident()
        self._task = _current_task()
        outer = self.parent.attribution if self.parent else _NOBODY
        self.attribution = Attribution(
            outer.scope.replace(**self._fields), self._owner or outer.owner
        )
        if frame.f_code.co_flags & (_GENERATOR_FLAGS):
            self.frame = frame
            _entered_by_generators[id(frame)] = self
        self._is_open = True
        _entered.set((*(e for e in _entered.get() if not e.is_void), self))

    def leave(self) -> None:
        """Take the scope back, in whatever context this runs."""
        self._is_open = False
        if self.frame is not None:
            _entered_by_generators.pop(id(self.frame), None)
            if self.parent is not None and self.parent.frame is self.frame:
                _entered_by_generators[id(self.frame)] = self.parent
            self.frame = None
        entries = _entered.get()
        if self in entries:
            _entered.set(tuple(entry for entry in entries if entry is not self))
        else:  # closed elsewhere: the context that entered it cannot be reached from here
            self.is_void = True

    def __enter__(self) -> ScopeEntry:
        self.enter(depth=2)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.leave()

    def is_in_force(self, thread: int, task: object | None) -> bool:
        """Tell whether calls that start in this thread and task are caused by this scope."""
        if self.is_void:
            return False
        if thread != self._thread or task is not self._task:
            return True
        if not self._is_open:
            return False
        # A suspended generator's frame has no caller.
        return self.frame is None or self.frame.f_back is not None

    def is_inside(self, other: ScopeEntry) -> bool:
        """Tell whether this is the other entry or was entered while it was in force."""
        entry: ScopeEntry | None = self
        while entry is not None and entry is not other:
            entry = entry.parent
        return entry is other


_entered: Final[ContextVar[tuple[ScopeEntry, ...]]] = ContextVar("agentsight_scope", default=())
_entered_by_generators: Final[dict[int, ScopeEntry]] = {}
_tool: Final[ContextVar[str | None]] = ContextVar("agentsight_tool", default=None)


def current_attribution() -> Attribution:
    """Return the scope in force, empty where none was entered."""
    if not _entered.get() and not _entered_by_generators:
        return _NOBODY
    entry = _entry_in_force()
    return entry.attribution if entry else _NOBODY


tool_in_force: Final[Callable[[], str | None]] = _tool.get
"""Returns the name of the tool inside which this runs."""


@contextmanager
def tool_scope(name: str) -> Iterator[None]:
    """Name the tool inside which the calls of this block are made."""
    token = _tool.set(name)
    try:
        yield
    finally:
        _tool.reset(token)


def _entry_in_force() -> ScopeEntry | None:
    entries = _entered.get()
    found = None
    if entries:
        thread, task = get_ident(), _current_task()
        found = next((e for e in reversed(entries) if e.is_in_force(thread, task)), None)
    if _entered_by_generators:
        generator = _entry_of_running_generator()
        if generator is not None and (found is None or not found.is_inside(generator)):
            return generator
    return found


def _entry_of_running_generator() -> ScopeEntry | None:
    frame: FrameType | None = sys._getframe(2)  # noqa: SLF001  # as above
    while frame is not None:
        entry = _entered_by_generators.get(id(frame))
        if entry is not None:
            return entry
        frame = frame.f_back
    return None


def _current_task() -> object | None:
    asyncio = sys.modules.get("asyncio")
    if asyncio is None:
        return None
    try:
        task: object | None = asyncio.current_task()
    except RuntimeError:  # no loop runs in this thread
        return None
    return task
