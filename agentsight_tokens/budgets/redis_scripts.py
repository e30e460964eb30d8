"""How scripts are run in Redis: by a client that was given, or over connections that are kept."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from functools import lru_cache
from hashlib import sha1
from importlib.resources import files
from typing import Any, Protocol

__all__ = ["GivenClient", "KeptConnections", "Script", "Scripts"]


class Script:
    """
    A script, and the digest by which Redis knows it.

    Args:
        name: Its file in the folder `lua`.
    """

    def __init__(self, name: str) -> None:
        folder = files(__package__) / "lua"
        self.text = "\n".join((folder / part).read_text("utf-8") for part in ("common.lua", name))
        self.digest = sha1(self.text.encode(), usedforsecurity=False).hexdigest().encode()


class Scripts(Protocol):
    """Runs scripts in Redis."""

    def run(self, script: Script, keys: Sequence[bytes], args: Sequence[bytes]) -> Any:
        """Return what a script answers, bytes as bytes; the errors are those of redis-py."""

    def forget_after_fork(self) -> None:
        """Begin anew in a child."""

    def close(self) -> None:
        """Close what is kept open."""


class GivenClient:
    """
    Runs scripts by somebody's client, in the client's own way.

    Args:
        client: A client of redis-py, of one server or of a cluster.
    """

    def __init__(self, client: Any) -> None:
        from redis.exceptions import NoScriptError  # it is installed where there is a client

        self._is_unknown = NoScriptError
        self._client = client

    def run(self, script: Script, keys: Sequence[bytes], args: Sequence[bytes]) -> Any:
        """Return what a script answers."""
        command = ("EVALSHA", script.digest, len(keys), *keys, *args)
        try:
            return self._client.execute_command(*command, NEVER_DECODE=True)
        except self._is_unknown:
            self._client.script_load(script.text)
            return self._client.execute_command(*command, NEVER_DECODE=True)

    def forget_after_fork(self) -> None:
        """Do nothing: redis-py connects again by itself."""

    def close(self) -> None:
        """Do nothing: the client is closed by the store."""


class KeptConnections:
    """
    Runs scripts over connections that nobody else uses, each by one thread at a time.

    What a client does before and after each command (taking a connection from its pool, looking
    whether it still lives, packing arguments of any type, recording metrics) takes as long as
    the round trip itself. Here a connection that has died is noticed when it is used, and the
    command is sent once more: a script does nothing twice.

    Args:
        pool: A pool of redis-py, which says how to connect.
    """

    def __init__(self, pool: Any) -> None:
        from redis import exceptions  # it is installed where there is a pool

        self._is_broken = exceptions.ConnectionError
        self._is_unknown = exceptions.NoScriptError
        self._pool = pool
        self.forget_after_fork()

    def run(self, script: Script, keys: Sequence[bytes], args: Sequence[bytes]) -> Any:
        """Return what a script answers."""
        command = [_packed((b"EVALSHA", script.digest, b"%d" % len(keys), *keys, *args))]
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = self._pool.make_connection()
        try:
            try:
                return _asked(connection, command)
            except self._is_broken:
                return _asked(connection, command)
            except self._is_unknown:
                _asked(connection, [_packed((b"SCRIPT", b"LOAD", script.text.encode()))])
                return _asked(connection, command)
        except BaseException:
            connection.disconnect()  # its answer may still come; it connects again when used
            raise
        finally:
            self._idle.append(connection)

    def forget_after_fork(self) -> None:
        """Leave the connections to the parent."""
        self._idle: deque[Any] = deque()

    def close(self) -> None:
        """Close the connections; they are opened again when they are needed."""
        while self._idle:
            self._idle.pop().disconnect()


def _asked(connection: Any, command: list[bytes]) -> Any:
    connection.send_packed_command(command)
    return connection.read_response(disable_decoding=True)


def _packed(words: Sequence[bytes]) -> bytes:
    parts = [b"*%d\r\n" % len(words)]
    for word in words:  # formatting a word of hundreds of bytes takes longer than joining it
        parts += (_length_line(len(word)), word, b"\r\n")
    return b"".join(parts)


@lru_cache(maxsize=1024)
def _length_line(length: int) -> bytes:
    return b"$%d\r\n" % length
