"""The folder of a process: there as a whole, or not at all."""

from __future__ import annotations

import warnings
from pathlib import Path
from threading import Event, Thread

from agentsight_tokens.outbox import Outbox
from agentsight_tokens.process_folder import ProcessFolder

FOLDERS = 100


def test_nobody_sees_a_folder_that_is_being_made(tmp_path: Path) -> None:
    """Senders look into all folders at any time: that must not keep a process off its disk."""
    is_over = Event()
    errors: list[Exception] = []

    def look() -> None:
        while not is_over.is_set():
            outbox = Outbox(tmp_path)
            try:
                outbox.pending()
            except Exception as error:  # noqa: BLE001  # whatever a sender would meet
                errors.append(error)
            outbox.close()

    lookers = [Thread(target=look, daemon=True) for _ in range(2)]
    for looker in lookers:
        looker.start()
    in_memory = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(FOLDERS):
            folder = ProcessFolder(tmp_path / "processes", ["there"])
            in_memory += folder.journal.is_in_memory
            folder.close()
    is_over.set()
    for looker in lookers:
        looker.join()

    assert (in_memory, errors) == (0, [])
    assert list((tmp_path / "processes").iterdir()) == []
