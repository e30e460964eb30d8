"""
One trace: which of its spans count.

Instrumentations nest. A chain, an agent, a framework's model and the SDK beneath it may each
write the same tokens to a span of their own. The innermost span that tells of use counts; what is
around it, and what comes later below a span that has counted, is covered by it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

__all__ = ["Member", "MemberKind", "Trace"]

MemberKind = Literal["used", "silent", "total", "other"]
"""
What a span is within its trace.

- `used`: a call of a model that tells what it used.
- `silent`: a call of a model that does not.
- `total`: an agent, a chain or the like, with the sum of what is below it.
- `other`: anything else; it only tells what is below what.
"""


class Member(NamedTuple):
    """A span of a trace."""

    span_id: str
    parent_id: str
    """Empty if there is no parent."""
    kind: MemberKind


class Trace:
    """
    Takes the spans of a trace in groups, as they come, and says which of them count.

    A call is decided with the group in which it comes. A total is decided later, when what is
    below it has had the time to come: `counts_total` says whether it counts, and
    `count_total` notes that it does.
    """

    def __init__(self) -> None:
        self.counted: set[str] = set()
        """The ids of the spans that count."""
        self._parents: dict[str, str] = {}
        self._above_use: set[str] = set()
        """What has a span below it that tells of use, also where that span is not known."""
        self._above_calls: set[str] = set()
        """What has a call of a model below it."""
        self._above_totals: set[str] = set()
        """What has a total below it."""

    def add(self, members: Iterable[Member]) -> None:
        """Take spans that came together; those that are known already change nothing."""
        new = [each for each in members if each.span_id not in self._parents]
        for each in new:
            is_own = each.parent_id == each.span_id
            self._parents[each.span_id] = "" if is_own else each.parent_id
        for each in new:
            self._note(each)
        for each in new:
            if each.kind == "used":
                self._decide_used(each)
        for each in new:
            if each.kind == "silent":
                self._decide_silent(each)

    def counts_total(self, span_id: str) -> bool:
        """
        Return whether a total counts: nothing within it, and nothing around it, has counted.

        Where spans that tell of use are below one that never came, that one may be within the
        total, and so may they.
        """
        if span_id in self.counted:
            return True
        if span_id in self._above_use or span_id in self._above_totals:
            return False
        around = list(self._ancestors(span_id))
        if any(each in self.counted for each in around):
            return False
        unknown = {each for each in self._above_use if each not in self._parents}
        return not unknown - set(around)

    def count_total(self, span_id: str) -> None:
        """Note that a total counts; what comes later within it, or around it, does not."""
        self.counted.add(span_id)
        self._mark(self._parents.get(span_id, ""), self._above_use)

    def _note(self, member: Member) -> None:
        """Note what is above a span."""
        span_id, parent_id = member.span_id, self._parents[member.span_id]
        is_used = member.kind == "used"
        if is_used or span_id in self._above_use:
            self._mark(parent_id, self._above_use)
        if is_used or member.kind == "silent" or span_id in self._above_calls:
            self._mark(parent_id, self._above_calls)
        if member.kind == "total" or span_id in self._above_totals:
            self._mark(parent_id, self._above_totals)

    def _decide_used(self, member: Member) -> None:
        if member.span_id not in self._above_use and not self._is_covered(member):
            self.counted.add(member.span_id)

    def _decide_silent(self, member: Member) -> None:
        if member.span_id not in self._above_calls and not self._is_covered(member):
            self.counted.add(member.span_id)

    def _is_covered(self, member: Member) -> bool:
        """Return whether a span around this one has counted."""
        return any(each in self.counted for each in self._ancestors(member.span_id))

    def _mark(self, span_id: str, marked: set[str]) -> None:
        while span_id and span_id not in marked:
            marked.add(span_id)
            span_id = self._parents.get(span_id, "")

    def _ancestors(self, span_id: str) -> Iterator[str]:
        """Yield what is around a span; the last may be one that is not known."""
        seen = {span_id}
        parent = self._parents.get(span_id, "")
        while parent and parent not in seen:
            yield parent
            seen.add(parent)
            parent = self._parents.get(parent, "")
