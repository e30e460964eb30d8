"""The text of a trace, as it is kept: its groups of spans in the order in which they came."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final
from zlib import crc32

from .trace import Member, MemberKind, Trace

__all__ = ["counted_text", "digest", "group_text", "trace_of"]

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


def digest(text: str) -> str:
    """Return 8 digits by which texts of one trace are told apart; nothing for no text."""
    return f"{crc32(text.encode('utf-8', 'replace')):08x}" if text else ""


def group_text(members: Iterable[Member]) -> str:
    """
    Return the text of spans that came together.

    Of each: a letter for what it is, its own id, its parent's id, and where the span tells of a
    response the digests of that and of the instrumentation.
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
    text = _LETTERS[member.kind] + member.span_id + (member.parent_id or _NO_PARENT)
    return text + member.response + member.library if member.response else text


def _member(text: str) -> Member:
    parent_id = text[17:33]
    return Member(
        text[1:17],
        "" if parent_id == _NO_PARENT else parent_id,
        _KINDS[text[0]],
        text[33:41],
        text[41:],
    )
