"""Ports for servers that are started, killed and started again on the same one."""

from __future__ import annotations

import socket
from contextlib import suppress
from random import SystemRandom

__all__ = ["free_port"]

# Below those that the kernel gives to connections and to whoever takes any port: one of these may
# be somebody else's by the time at which a server begins.
_PORTS = range(20_000, 32_000)


def free_port() -> int:
    """Return a port that is free, and stays so unless it is named."""
    while True:
        port = SystemRandom().choice(_PORTS)
        with suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
