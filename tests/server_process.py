"""`agentsight-tokens serve` in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

_SERVE = (sys.executable, "-m", "agentsight_tokens", "serve")


class ServerProcess:
    """A server that can be killed and begun again at the same address."""

    def __init__(self, directory: Path, *arguments: str, key: str | None = None) -> None:
        self._directory = directory
        self._arguments = arguments
        self._key = key
        self._port = "0"
        self._process: subprocess.Popen[str] | None = None
        self.begin()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def begin(self) -> None:
        """Begin, and return when it listens."""
        environment = {**os.environ, "AGENTSIGHT_DATA_DIR": str(self._directory)}
        environment["AGENTSIGHT_LOG_LEVEL"] = "WARNING"
        if self._key is not None:
            environment["AGENTSIGHT_API_KEY"] = self._key
        self._process = subprocess.Popen(
            [*_SERVE, "--port", self._port, *self._arguments],
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"the server did not begin: {self._process.wait()}"
        self._port = line.rpartition(":")[2].strip()

    def end(self, sign: signal.Signals = signal.SIGKILL) -> int:
        """Send a signal; return the exit code."""
        assert self._process is not None
        self._process.send_signal(sign)
        code = self._process.wait(timeout=30)
        if self._process.stdout is not None:
            self._process.stdout.close()
        return code

    def __enter__(self) -> ServerProcess:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        if self._process.poll() is None:
            self.end()
