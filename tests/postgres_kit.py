"""A PostgreSQL of one's own, on a free port, with its data in a temporary directory."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from itertools import count
from pathlib import Path

import psycopg

from agentsight_tokens.backend.store.upgrading import upgrade
from tests.ports import free_port

_MIGRATED = "migrated"


class PostgreSQL:
    """A cluster that is made and taken down by the tests; its files are not synced to disk."""

    def __init__(self, *settings: str) -> None:
        self._programs = _programs()
        # It refuses to run as root.
        self._user = _unprivileged() if os.getuid() == 0 else None
        self._directory = Path(tempfile.mkdtemp(prefix="postgresql-"))
        if self._user is not None:
            shutil.chown(self._directory, self._user)
        self._settings = ("fsync=off", "max_connections=50", *settings)
        self._data = self._directory / "data"
        self._numbers = count()
        self.port = free_port()
        self._run("initdb", "-A", "trust", "-U", "tests", "-E", "UTF8", "--locale=C", "-N")
        self.start()

    @property
    def pid(self) -> int:
        """Of the process that looks after all others."""
        [pid, *_] = (self._data / "postmaster.pid").read_text().split()
        return int(pid)

    def url(self, database: str) -> str:
        return f"postgresql://tests@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        options = ["-p", str(self.port), "-k", str(self._directory)]
        for setting in ("listen_addresses=127.0.0.1", *self._settings):
            options += ["-c", setting]
        self._run(
            "pg_ctl", "-w", "-l", str(self._directory / "log"), "-o", " ".join(options), "start"
        )

    def stop(self, mode: str = "fast") -> None:
        """Stop it; `immediate` is a crash."""
        self._run("pg_ctl", "-w", "-m", mode, "stop")

    def close(self) -> None:
        self.stop("immediate")
        shutil.rmtree(self._directory, ignore_errors=True)

    def empty_database(self) -> str:
        """Return the address of a new database without tables."""
        name = f"d{next(self._numbers)}"
        self._execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def database(self) -> str:
        """Return the address of a new database with the tables of this version."""
        with psycopg.connect(self.url("postgres")) as connection:
            query = "SELECT 1 FROM pg_database WHERE datname = %s"
            is_there = connection.execute(query, (_MIGRATED,)).fetchone()
        if not is_there:
            self._execute(f"CREATE DATABASE {_MIGRATED}")
            upgrade(self.url(_MIGRATED))
        name = f"d{next(self._numbers)}"
        self._execute(f"CREATE DATABASE {name} TEMPLATE {_MIGRATED}")
        return self.url(name)

    def _execute(self, statement: str) -> None:
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(statement.encode())

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [self._programs / program, "-D", self._data, *arguments],
            user=self._user,
            cwd=self._directory,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{program}: {done.stderr}"


def _programs() -> Path:
    """Return where PostgreSQL's programs are; Debian has them outside the path."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: int(p.parent.name))
    if debian:
        return debian[-1]
    found = shutil.which("initdb")
    assert found, "these tests need PostgreSQL: apt-get install postgresql"
    return Path(found).parent


def _unprivileged() -> str:
    known = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in known else "nobody"
