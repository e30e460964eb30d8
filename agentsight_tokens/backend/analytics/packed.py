"""Sums from packs: what the calls would have to be read for, of the times that are packed."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import Final, NamedTuple

from agentsight_tokens.backend.store import Reader
from agentsight_tokens.backend.store.form import MAKINGS, Form
from agentsight_tokens.backend.store.pack import (
    NAMED,
    PLACES,
    ROWS_A_PART,
    Part,
    part_name,
    print_of,
)
from agentsight_tokens.backend.store.packs import Pack, stored, true_packs
from agentsight_tokens.backend.store.rollup import SUM_COLUMNS

from .batch import Batch, labels, within
from .dimensions import PERIODS
from .gathering import Gathering
from .names import PackedNames
from .places import Among, Prints, parts_with, places_of, together
from .plan import Query, Range

__all__ = ["gather", "packs_for"]

_ROWS_AT_ONCE: Final = 200_000
"""Of packs, that are in memory together."""

_THINNER: Final = 4
"""How many rows of a form with few sums are read in the time of one that has all."""


def packs_for(reader: Reader, query: Query, span: Range) -> list[Pack]:
    """
    Return the packs that answer a query about a time, in its order.

    Of those that overlap it is the longest one that has what is asked for.
    """
    found: list[Pack] = []
    for pack in true_packs(reader, *span):
        is_beyond = not found or found[-1].end <= pack.start
        if is_beyond and (pack.head.parts or _form(query, pack, span)):
            found.append(pack)
    return found


def gather(
    reader: Reader,
    query: Query,
    span: Range,
    packs: Sequence[Pack],
    gathering: Gathering,
    among: Among | None = None,
) -> list[Range] | None:
    """
    Add up what packs know of a time; return the times that they do not, or None if it is too much.

    Args:
        reader: A project.
        query: What is asked for; no text of its filter is empty.
        span: The time.
        packs: That `packs_for` has found.
        gathering: Where it is added up.
        among: What selects calls beside the query.

    Raises:
        UntoldError: If packs do not tell which conversation or session is asked for.
    """

    def read(reading: _Reading) -> Batch:
        return Batch(query, span, reading.form, stored(reader, Part, reading.names), among)

    readings = list(_readings(reader, query, span, packs, gathering.names, among))
    known: list[Pack] = []
    for batch in _batches(readings, read):
        known += batch.packs
        batch.add_to(gathering)
        if gathering.is_full:
            return None
    for name in NAMED:
        if (value := query.filters.get(name)) is not None:
            gathering.names.check(value)
    return _beside(known, span)


def _beside(packs: Sequence[Pack], span: Range) -> list[Range]:
    """Return the times of a span that packs do not tell of."""
    left, since = [], span.since
    for pack in sorted(packs, key=lambda pack: pack.start):
        first, end = within(pack, span)
        if since is None or since < first:
            left.append(Range(since, first))
        since = end
    if since is None or span.until is None or since < span.until:
        left.append(Range(since, span.until))
    return left


class _Reading(NamedTuple):
    """What is read together: parts of packs of one period, or a form of them."""

    form: Form | None
    names: dict[Pack, list[str]]
    """Under which it is stored."""
    rows: list[int]
    """How many rows there are of each pack, or nearly."""

    def cut(self) -> Iterator[_Reading]:
        """Cut it into so much as is in memory together."""
        some: dict[Pack, list[str]] = {}
        rows: list[int] = []
        for (pack, names), count in zip(self.names.items(), self.rows, strict=True):
            if some and sum(rows) + count > _ROWS_AT_ONCE:
                yield _Reading(self.form, some, rows)
                some, rows = {}, []
            some[pack] = names
            rows.append(count)
        if some:
            yield _Reading(self.form, some, rows)


def _batches(readings: Sequence[_Reading], read: Callable[[_Reading], Batch]) -> Iterator[Batch]:
    """Yield what is read, and read what follows while that is added up."""
    if not readings:
        return
    with ThreadPoolExecutor(1) as ahead:
        batch = read(readings[0])
        for reading in readings[1:]:
            following = ahead.submit(read, reading)
            yield batch
            batch = following.result()
        yield batch


def _readings(
    reader: Reader,
    query: Query,
    span: Range,
    packs: Sequence[Pack],
    names: PackedNames,
    among: Among | None,
) -> Iterator[_Reading]:
    """Yield the parts of packs that have what is asked for, so many as are in memory together."""
    of_forms: dict[Form | None, list[Pack]] = {}
    for pack in packs:
        if operator.lt(*within(pack, span)):
            of_forms.setdefault(_form(query, pack, span), []).append(pack)
    for form, of_form in of_forms.items():
        for some in together(of_form):
            yield from _quickest(reader, query, form, some, names, among).cut()


def _quickest(
    reader: Reader,
    query: Query,
    form: Form | None,
    packs: Sequence[Pack],
    names: PackedNames,
    among: Among | None,
) -> _Reading:
    """Return the reading of a form of packs; of their parts if there is none, or they have less."""
    whole = form and _Reading(
        form,
        {pack: [form.name] for pack in packs},
        [pack.head.forms[form.name] for pack in packs],
    )
    is_placed = any(name in query.filters for name in chain.from_iterable(PLACES.values()))
    if whole and not (is_placed and packs[0].head.parts):
        return whole
    numbers = _parts(reader, query, packs, names, among)
    parts = _Reading(
        None,
        {pack: list(map(part_name, each)) for pack, each in numbers.items()},
        [len(each) * ROWS_A_PART for each in numbers.values()],
    )
    thinner = 1 if form is None or form.sums == SUM_COLUMNS else _THINNER
    if whole and sum(whole.rows) <= thinner * sum(parts.rows):
        return whole
    return parts


def _parts(
    reader: Reader, query: Query, packs: Sequence[Pack], names: PackedNames, among: Among | None
) -> dict[Pack, list[int]]:
    """Return the numbers of the parts that may have what is asked for; packs that are gone not."""
    import numpy

    if among is not None:
        return names.parts_with(packs, among.prints)
    for place, of_place in PLACES.items():
        values = [query.filters[name] for name in of_place if name in query.filters]
        if values:
            prints = Prints(numpy.array([print_of(values[0])], numpy.int64))
            if of_place == NAMED:
                return names.parts_with(packs, prints)
            return parts_with(places_of(reader, packs, place), prints)
    return {pack: list(range(pack.head.parts)) for pack in packs}


def _form(query: Query, pack: Pack, span: Range) -> Form | None:
    """Return the form of a pack that has all that is asked for, if there is one."""
    names = {*query.keys, *query.filters} - set(PERIODS)
    for form in MAKINGS[pack.period].forms:
        if (
            form.name in pack.head.forms
            and names <= set(form.dimensions)
            and set(query.columns) <= set(form.sums)
            and (form.has_quarters or _is_one(query, pack, span))
        ):
            return form
    return None


def _is_one(query: Query, pack: Pack, span: Range) -> bool:
    """Return whether all of a pack is asked for, and in one period."""
    if within(pack, span) != (pack.start, pack.end):
        return False
    periods = set(query.keys) & set(PERIODS)
    return all(len(set(labels(query.segments, key, pack))) == 1 for key in periods)
