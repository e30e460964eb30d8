"""Many workers at once, for a few conversations that are sent all the while."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from .clients import Clients
from .scenario import MiscountError

__all__ = ["CALLS", "SHARES", "work_at_once"]

_WORKERS: Final = 32
_CALLS_OF_WORKER: Final = 4
_NAMES: Final = "abcd"

CALLS: Final = _WORKERS * _CALLS_OF_WORKER
"""How many calls the workers make."""


def _tokens(worker: int, call: int) -> tuple[int, int]:
    return worker + 1, call + 1


def _shares() -> dict[str, tuple[int, int]]:
    found = dict.fromkeys(_NAMES, (0, 0))
    for worker in range(_WORKERS):
        name = _NAMES[worker % len(_NAMES)]
        for call in range(_CALLS_OF_WORKER):
            prompt, completion = _tokens(worker, call)
            found[name] = found[name][0] + prompt, found[name][1] + completion
    return found


SHARES: Final = _shares()
"""The prompt and completion tokens that each conversation uses."""


class _Sending(threading.Thread):
    """Sends what the conversations use, every 3 ms."""

    def __init__(self, kit: Clients) -> None:
        super().__init__()
        self.kit = kit
        self.is_over = threading.Event()
        self.sent: dict[str, int | None] = dict.fromkeys(_NAMES, 0)

    def run(self) -> None:
        is_last = False
        while not is_last:
            is_last = self.is_over.wait(0.003)
            for name, before in self.sent.items():
                more = self.kit.meter.send(name)
                self.sent[name] = None if more is None or before is None else before + more

    def finish(self) -> None:
        self.is_over.set()
        self.join()
        for name, tokens in self.sent.items():
            billed = self.kit.provider.billed(name).total_tokens
            if tokens is not None and tokens != billed:
                raise MiscountError(billed, tokens)


def work_at_once(kit: Clients, call: Callable[[int, str], object]) -> None:
    """
    Let all workers make their calls.

    Args:
        kit: The clients.
        call: Makes a call, given its number among its worker's calls, and the prompt.

    Raises:
        MiscountError: If what was sent is not what the provider billed.
    """
    sending = _Sending(kit)

    def work(worker: int) -> None:
        name = _NAMES[worker % len(_NAMES)]
        for number in range(_CALLS_OF_WORKER):
            given, made = _tokens(worker, number)
            with kit.meter.conversation(name):
                call(number, f"[[in={given} out={made} label={name}]]")

    workers = [threading.Thread(target=work, args=(each,)) for each in range(_WORKERS)]
    for thread in (sending, *workers):
        thread.start()
    for thread in workers:
        thread.join()
    sending.finish()
