"""The text of a trace, as it is kept: its groups of spans in the order in which they came."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from .trace import Member, MemberKind, Trace

__all__ = ["counted_text", "group_text", "trace_of"]

_KINDS: Final[dict[str, MemberKind]] = {
    "u": "used",
    "s": "silent",
    "t": "total",
    "o": "other",
}
_LETTERS: Final = {kind: letter for letter, kind in _KINDS.items()}
_COUNTED: Final = "c"
_NO_PARENT: Final = "0" * 16
_GROUP_END: Final = "\n"


def group_text(members: Iterable[Member]) -> str:
    """
    Return the text of spans that came together.

    Of each: a letter for what it is, its own id and its parent's id.
    """
    return " ".join(map(_member_text, members)) + _GROUP_END


def counted_text(span_id: str) -> str:
    """Return the text of the decision that a total counts."""
    return _COUNTED + span_id + _GROUP_END


def trace_of(text: str) -> Trace:
    """Return the trace that a text tells of."""
    trace = Trace()
    for group in text.splitlines():
        if group[0] == _COUNTED:
            trace.count_total(group[1:])
        else:
            trace.add(map(_member, group.split(" ")))
    return trace


def _member_text(member: Member) -> str:
    return _LETTERS[member.kind] + member.span_id + (member.parent_id or _NO_PARENT)


def _member(text: str) -> Member:
    parent_id = text[17:]
    return Member(text[1:17], "" if parent_id == _NO_PARENT else parent_id, _KINDS[text[0]])
