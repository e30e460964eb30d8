"""AlertSpool: messages for webhooks in a folder, from which they are delivered, if need be later."""

from __future__ import annotations

import atexit
import hashlib
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from agentsight_tokens.faults import contained
from agentsight_tokens.folder_lock import FolderLock
from agentsight_tokens.forks import renew_after_fork

from .webhook import WebhookMessage, failure_of

__all__ = ["AlertSpool"]

_FIRST_PAUSE_SECONDS: Final = 1.0
_LONGEST_PAUSE_SECONDS: Final = 300.0
_EXIT_SECONDS: Final = 2.0

_logger: Final = logging.getLogger("agentsight_tokens")
_decoder: Final = msgspec.json.Decoder(WebhookMessage)


class AlertSpool:
    """
    Delivers messages again and again until each is accepted, refused or too old.

    They lie in a folder that the processes of this machine share; one of them at a time
    delivers. What a process leaves behind is delivered by the next.

    Args:
        folder: The folder; it is made when the first message comes.
        longest_wait_seconds: The age at which a message is given up.
        timeout_seconds: How long one delivery may take.
        sleep: Waits between two tries.
    """

    def __init__(
        self,
        folder: Path,
        *,
        longest_wait_seconds: float,
        timeout_seconds: float = 10.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._folder = folder
        self._longest_wait = longest_wait_seconds
        self._timeout = timeout_seconds
        self._sleep = sleep
        self._turn = FolderLock(folder / "lock")
        self.forget_after_fork()
        renew_after_fork(self)
        atexit.register(self.join, _EXIT_SECONDS)
        if self._waiting():
            self._start()

    def forget_after_fork(self) -> None:
        """Begin anew in a child: what the parent delivers, the parent delivers."""
        self._turn.release()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def put(self, message: WebhookMessage) -> None:
        """
        Take a message; return when it is on disk.

        Raises:
            OSError: If the disk does not take it.
        """
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        digest = hashlib.sha256(message.key.encode()).hexdigest()[:16]
        file = self._folder / f"{time.time_ns():020d}-{digest}.json"
        partial = file.with_suffix(".partial")
        partial.touch(mode=0o600)  # the address may be a secret
        partial.write_bytes(msgspec.json.encode(message))
        partial.rename(file)
        self._start()

    def join(self, seconds: float) -> None:
        """Wait for what is being delivered."""
        thread = self._thread
        if thread is not None:
            thread.join(seconds)

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._work, name="agentsight-alerts", daemon=True
                )
                self._thread.start()

    def _work(self) -> None:
        pause = _FIRST_PAUSE_SECONDS
        while True:
            with self._lock:
                if not self._waiting():
                    self._thread = None
                    return
            is_stuck = True
            with contained("delivering alerts"):
                is_stuck = self._take_turn()
            if is_stuck:
                self._sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
            else:
                pause = _FIRST_PAUSE_SECONDS

    def _take_turn(self) -> bool:
        """Deliver what waits, unless another process does; return whether something is left."""
        if not self._turn.try_acquire():
            return True
        try:
            # Each is tried: an address that is no longer there must not keep the others back.
            return bool([file for file in self._waiting() if not self._deliver(file)])
        finally:
            self._turn.release()

    def _waiting(self) -> list[Path]:
        try:
            return sorted(file for file in self._folder.iterdir() if file.suffix == ".json")
        except FileNotFoundError:
            return []

    def _deliver(self, file: Path) -> bool:
        """Deliver a message; return whether it is done with."""
        try:
            failure = failure_of(_decoder.decode(file.read_bytes()), self._timeout)
        except msgspec.DecodeError as error:
            _logger.error("%s holds no alert: %s", file, error)
            failure = None
        if failure is not None:
            age = time.time() - int(file.name.partition("-")[0]) / 1e9
            if failure.is_temporary and age < self._longest_wait:
                return False
            _logger.error("an alert was not delivered: %s", failure.reason)
        file.unlink(missing_ok=True)
        return True
