"""A lock between processes, which the kernel frees when its holder dies."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

__all__ = ["FolderLock"]


class FolderLock:
    """An advisory lock on a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None
        self._inode = 0

    @property
    def is_held(self) -> bool:
        """Whether this object holds the lock."""
        return self._descriptor is not None

    @property
    def is_void(self) -> bool:
        """Whether the file of a lock that is held was deleted, so that it keeps nobody out."""
        if self._descriptor is None:
            return False
        try:
            return self._path.stat().st_ino != self._inode
        except OSError:
            return True

    @property
    def is_taken(self) -> bool:
        """Whether there is such a lock, and somebody else holds it."""
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            return not _lock(descriptor)
        finally:
            os.close(descriptor)

    def try_acquire(self) -> bool:
        """
        Take the lock if it is free.

        Raises:
            OSError: If its file cannot be made.
        """
        if self._descriptor is not None:
            return True
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if not _lock(descriptor):
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        self._inode = os.fstat(descriptor).st_ino
        return True

    def moved(self, path: Path) -> None:
        """Note that the file has another name now."""
        self._path = path

    def release(self) -> None:
        """Give the lock back; in a child after a fork, only let go of the parent's."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
