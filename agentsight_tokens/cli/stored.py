"""What `doctor` finds on disk and behind it: the data, the destinations and what waits."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator, Set
from datetime import datetime, timezone
from pathlib import Path
from typing import Final

from agentsight_tokens.backend.store.sqlite import STORE_FILE
from agentsight_tokens.config import TokenConfig
from agentsight_tokens.destinations import Destination
from agentsight_tokens.destinations.embedded import EmbeddedDestination
from agentsight_tokens.errors import ConfigurationError, DestinationError
from agentsight_tokens.runtime import configured_destinations

from .finding import Finding
from .screen import plural
from .waiting import Waiting, losses_in, waiting_in

__all__ = ["bytes_text", "examine_data"]

_UNITS: Final = ("bytes", "kB", "MB", "GB", "TB")


def examine_data(config: TokenConfig) -> Iterator[Finding]:
    """Look at the data directory, the store, the destinations and the outbox."""
    directory = _directory(config)
    yield directory
    try:
        destinations = configured_destinations(config)
    except ConfigurationError as error:
        yield Finding("destinations", "broken", str(error), "a tracker cannot be constructed so")
        destinations = []
    for destination in destinations:
        yield _destination(destination, config)
    if directory.state != "broken" and config.directory.exists():
        yield from _outbox(config, {destination.identity for destination in destinations})


def _directory(config: TokenConfig) -> Finding:
    path = config.directory
    facts = {"path": str(path), "exists": path.is_dir()}
    if path.exists() and not path.is_dir():
        return Finding("data", "broken", f"{path} is a file", "choose another --data-dir", facts)
    nearest = next(each for each in (path, *path.parents) if each.is_dir())
    free = shutil.disk_usage(nearest).free
    facts |= {"free_bytes": free}
    try:
        with tempfile.TemporaryFile(dir=nearest) as file:
            file.write(b"x" * 4096)
            file.flush()
    except OSError as error:
        return Finding(
            "data",
            "broken",
            f"{nearest} cannot be written: {error.strerror or error}",
            "name a directory that can be in AGENTSIGHT_DATA_DIR; until then calls are held in "
            "memory only",
            facts,
        )
    if not path.exists():
        text = f"{path}, made with the first call; {bytes_text(free)} free"
        return Finding("data", "ok", text, facts=facts)
    size = _size(path)
    text = f"{path}, {bytes_text(size)}; {bytes_text(free)} free"
    facts |= {"size_bytes": size}
    if free < config.outbox_max_mb * 1_000_000:
        return Finding("data", "note", text, "make room: counting needs some", facts)
    return Finding("data", "ok", text, facts=facts)


def _size(directory: Path) -> int:
    total = 0
    for folder, _, files in os.walk(directory):
        for name in files:
            with contextlib.suppress(FileNotFoundError):  # delivered meanwhile
                total += (Path(folder) / name).lstat().st_size
    return total


def bytes_text(number: float) -> str:
    """Return a number of bytes for reading."""
    for unit in _UNITS[:-1]:
        if number < 1000:
            return f"{number:,.3g} {unit}"
        number /= 1000
    return f"{number:,.3g} {_UNITS[-1]}"


def _destination(destination: Destination, config: TokenConfig) -> Finding:
    subject = f"destination {destination.identity}"
    file = config.directory / STORE_FILE
    is_embedded = isinstance(destination, EmbeddedDestination)
    if is_embedded and not file.exists():
        return Finding(subject, "ok", "made with the first delivery", facts={"answers": None})
    try:
        destination.check()
        text = _stored(file) if is_embedded else "answers"
    except (DestinationError, sqlite3.Error) as error:
        return Finding(
            subject,
            "broken",
            str(error),
            "everything waits on disk until it answers",
            {"answers": False},
        )
    finally:
        destination.close()
    return Finding(subject, "ok", text, facts={"answers": True})


def _stored(file: Path) -> str:
    from agentsight_tokens.backend.store import SQLiteStore

    with SQLiteStore(file) as store:
        [(calls, newest)] = store.rows("SELECT COUNT(*), MAX(at) FROM calls")
    if not calls:
        return "answers; no calls yet"
    at = datetime.fromtimestamp(newest / 1_000_000, timezone.utc)
    return f"answers; {plural(calls, 'call')}, the newest of {at:%Y-%m-%d %H:%M} UTC"


def _outbox(config: TokenConfig, configured: Set[str]) -> Iterator[Finding]:
    waiting = waiting_in(config.directory)
    facts = {"waiting": [each._asdict() for each in waiting]}
    pending = [each for each in waiting if each.state == "pending"]
    refused = sum(each.cycles for each in waiting if each.state == "refused")
    text = ", ".join(_text(each) for each in pending) or "nothing waits"
    yield Finding("outbox", "ok", text, facts=facts)
    for each in pending:
        if each.destination not in configured:
            yield Finding(
                "outbox",
                "note",
                f"{each.destination} is not configured now, so nobody delivers to it",
                f"configure it again, or: agentsight-tokens outbox flush --from {each.destination}",
            )
    if refused:
        yield Finding(
            "outbox",
            "note",
            f"{plural(refused, 'delivery', 'deliveries')} refused for ever, and kept aside",
            "agentsight-tokens outbox dead list",
        )
    for loss in losses_in(config.directory):
        yield Finding(
            "outbox", "note", str(loss), facts=loss._asdict() | {"folder": str(loss.folder)}
        )


def _text(waiting: Waiting) -> str:
    return f"{plural(waiting.cycles, 'cycle')} on the way to {waiting.destination}"
