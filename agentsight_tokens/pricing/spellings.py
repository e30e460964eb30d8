"""The other ways in which the name of one model is written."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final

__all__ = ["dated_suffix", "spellings", "undated"]

_LONGEST: Final = 200
"""A name that is longer has no other spelling: it is no model's, and would take long."""

_GEO: Final = r"(?:us-gov|us|eu|apac|global|regional|au|jp|ca|in|sa|uk|mx|af|il|me|ap)"
_CLAUDE_VERSION_FIRST: Final = re.compile(r"claude-(\d+(?:[.-]\d{1,2})?)-([a-z]+)(?=$|[-@:])")
_CLAUDE_FAMILY_FIRST: Final = re.compile(r"claude-([a-z]+)-(\d+(?:[.-]\d{1,2})?)(?=$|[-@:])")


def _rewrite(pattern: str, replacement: str) -> Callable[[str], str]:
    compiled = re.compile(pattern)
    return lambda name: compiled.sub(replacement, name)


_REWRITES: Final[tuple[Callable[[str], str], ...]] = (
    # Paths and ARNs: `models/x`, `publishers/google/models/x`, `arn:...:foundation-model/x`.
    _rewrite(r"^(?:.*/)?models/", ""),
    _rewrite(r"^arn:aws[^/]*:(?:foundation-model|inference-profile)/", ""),
    # Dates after `@` or `-`, and Vertex's word for none.
    _rewrite(r"@(?:default|latest)$", ""),
    _rewrite(r"@(\d{3}|\d{8})$", r"-\1"),
    _rewrite(r"-(\d{3}|\d{8})$", r"@\1"),
    # Versions with a point, a hyphen, or Fireworks' `p`.
    _rewrite(r"(?<=\d)\.(?=\d)", "-"),
    _rewrite(r"(?<=[a-z]-)(\d{1,2})-(\d{1,2})(?=$|-[a-z]|[@:])", r"\1.\2"),
    _rewrite(r"(?<=\d)\.(?=\d)", "p"),
    _rewrite(r"_", "-"),
    # A version that ends in `.0`, and Snowflake's names of OpenAI's models.
    _rewrite(r"(?<=-\d)-0$", ""),
    _rewrite(r"^openai-(?=gpt|o\d)", ""),
    # Azure's name for one family.
    _rewrite(r"^gpt-35-", "gpt-3.5-"),
    _rewrite(r"^gpt-3\.5-", "gpt-35-"),
    # Claude's version before or after its family.
    lambda name: _CLAUDE_VERSION_FIRST.sub(r"claude-\2-\1", name),
    lambda name: _CLAUDE_FAMILY_FIRST.sub(r"claude-\2-\1", name),
    # Bedrock: regional profiles, versions and context sizes.
    _rewrite(rf"^{_GEO}\.(?=[a-z0-9]+\.)", "regional."),
    _rewrite(r":\d+k$", ""),
    _rewrite(r"(?<=-v\d):\d+$", ""),
    _rewrite(r"-v\d+(?::\d+)?$", ""),
    _rewrite(r"^([a-z0-9.-]+\.[a-z0-9.-]+[a-z0-9])$", r"\1-v1:0"),
    _rewrite(r"(-v\d)$", r"\1:0"),
)
_CLAUDE_IN_BEDROCK: Final = re.compile(rf"(?:{_GEO}\.)?anthropic\.(claude-.+?)(?:-v\d+(?::\d+)?)?")

_DAY: Final = r"(?:0[1-9]|[12]\d|3[01])"
_MONTH: Final = r"(?:0[1-9]|1[0-2])"
_DATE: Final = (
    rf"(?:20\d\d{_MONTH}{_DAY}|20\d\d-{_MONTH}-{_DAY}|{_MONTH}-20\d\d|{_MONTH}-{_DAY}"
    rf"|2\d{_MONTH}{_DAY}|2\d{_MONTH}|{_MONTH}{_DAY}|\d{{3}})"
)
_DATED: Final = re.compile(rf"[-@]({_DATE})(-v\d+(?::\d+)?)?")
_UNDATED: Final = re.compile(rf"[-@]{_DATE}(?=$|-v\d|-preview$)")
_STAGE: Final = re.compile(
    r"-(?:preview|exp|experimental|latest)$|:(?:latest|beta|nitro|floor|exacto|thinking|extended)$"
)


def spellings(name: str) -> Iterator[str]:
    """Yield a name and its other spellings, the likelier first. None drops a word or a date."""
    seen = {name: None}
    frontier = [name] if len(name) <= _LONGEST else []
    for _ in range(3):
        reached = []
        for known in frontier:
            for rewrite in _REWRITES:
                other = rewrite(known)
                if other and other not in seen:
                    seen[other] = None
                    reached.append(other)
        frontier = reached
    yield from seen


def dated_suffix(name: str, prefix: str) -> str | None:
    """Return the date with which a name goes on after a prefix; None where it does otherwise."""
    match = _DATED.fullmatch(name[len(prefix) :])
    return None if match is None else match[1]


def undated(name: str) -> Iterator[str]:
    """Yield the family of a dated or preliminary name: without its date, then its stage."""
    bare = _UNDATED.sub("", name, count=1)
    if bare != name:
        yield bare
    while (plain := _STAGE.sub("", bare)) != bare:
        bare = plain
        yield bare
        less = _UNDATED.sub("", bare, count=1)
        if less != bare:
            bare = less
            yield bare
