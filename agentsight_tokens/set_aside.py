"""Files that cannot be read are set aside: kept under another name, and named in the log."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Final

__all__ = ["SET_ASIDE_MARK", "set_aside"]

SET_ASIDE_MARK: Final = ".corrupt-"
"""What stands between a file's name and the time at which it was set aside."""

_logger: Final = logging.getLogger("agentsight_tokens")


def set_aside(path: Path, why: object, *, companions: Sequence[str] = ()) -> Path:
    """
    Rename a file out of the way, and report it.

    Args:
        path: The file.
        why: What is wrong with it.
        companions: Endings of files that belong to it, as `-wal`; they keep theirs.
    """
    stamp = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%S.%f")
    kept = path.with_name(f"{path.name}{SET_ASIDE_MARK}{stamp}")
    for ending in ("", *companions):
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + ending).rename(kept.with_name(kept.name + ending))
    _logger.error("%s cannot be read (%s): it is kept as %s", path, why, kept.name)
    return kept
