"""Organisations, their projects, and the keys of these."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any, Final

import msgspec

from agentsight_tokens.calls import microseconds
from agentsight_tokens.errors import InvalidScopeError

from .api_key import KEY_SCOPES, ApiKey, KeyScope, digest, id_of, new_secret
from .store import Store

__all__ = ["Accounts", "Project"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)
_LONGEST_NAME: Final = 200
_USE_IS_NOTED_EVERY: Final = timedelta(minutes=1)
_KEY_COLUMNS: Final = (
    "id, project_id, name, scopes, created_at, expires_at, last_used_at, revoked_at"
)
_PROJECTS: Final = (
    "SELECT projects.id, organisations.name, projects.name, projects.created_at "
    "FROM projects JOIN organisations ON organisations.id = projects.organisation_id"
)


class Project(msgspec.Struct, frozen=True):
    """What the data of one key's owners are kept apart by."""

    id: int
    organisation: str
    name: str
    created_at: datetime


class Accounts:
    """Who may do what, as a store holds it."""

    def __init__(
        self,
        store: Store,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
    ) -> None:
        self._store = store
        self.now: Final = now

    def project(self, name: str = "default", *, organisation: str = "default") -> Project:
        """
        Return a project; it is made if there is none of that name in the organisation.

        Raises:
            InvalidScopeError: For a name that is empty or too long.
        """
        _check_name("project", name)
        _check_name("organisation", organisation)
        now = microseconds(self.now())
        with self._store.transaction() as transaction:
            transaction.run(
                "INSERT INTO organisations (name, created_at) VALUES (?, ?) "
                "ON CONFLICT (name) DO NOTHING",
                (organisation, now),
            )
            transaction.run(
                "INSERT INTO projects (organisation_id, name, created_at) "
                "SELECT id, CAST(? AS TEXT), CAST(? AS BIGINT) FROM organisations WHERE name = ? "
                "ON CONFLICT (organisation_id, name) DO NOTHING",
                (name, now, organisation),
            )
            [row] = transaction.rows(
                f"{_PROJECTS} WHERE projects.name = ? AND organisations.name = ?",
                (name, organisation),
            )
        return _project(row)

    def projects(self) -> list[Project]:
        """Return all projects, by organisation and name."""
        return [_project(row) for row in self._store.rows(f"{_PROJECTS} ORDER BY 2, 3")]

    def project_of(self, project_id: int) -> Project | None:
        """Return the project of an id."""
        rows = self._store.rows(f"{_PROJECTS} WHERE projects.id = ?", (project_id,))
        return _project(rows[0]) if rows else None

    def create_key(
        self,
        project_id: int,
        *,
        name: str,
        scopes: Iterable[KeyScope] = ("ingest",),
        expires_at: datetime | None = None,
    ) -> tuple[ApiKey, str]:
        """
        Make a key of a project.

        Returns:
            The key, and its secret: what clients show. It is not stored and cannot be had again.

        Raises:
            InvalidScopeError: For a name or scope that none can be, or an end in the past.
        """
        _check_name("name", name)
        wanted = tuple(scope for scope in KEY_SCOPES if scope in set(scopes))
        if not wanted or {*scopes} - {*KEY_SCOPES}:
            raise InvalidScopeError(
                f"scopes must be some of {', '.join(KEY_SCOPES)}, not {list(scopes)!r}"
            )
        now = self.now()
        if expires_at is not None and (expires_at.tzinfo is None or expires_at <= now):
            raise InvalidScopeError(
                f"expires_at must be an aware time in the future, not {expires_at!s}"
            )
        secret, id = new_secret()
        key = ApiKey(
            id=id,
            project_id=project_id,
            name=name,
            scopes=wanted,
            created_at=now,
            expires_at=expires_at,
        )
        with self._store.transaction() as transaction:
            transaction.run(
                "INSERT INTO api_keys (id, project_id, name, digest, scopes, created_at, expires_at) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    id,
                    project_id,
                    name,
                    digest(secret),
                    " ".join(wanted),
                    microseconds(now),
                    None if expires_at is None else microseconds(expires_at),
                ),
            )
        return key, secret

    def list_keys(self, project_id: int | None = None) -> list[ApiKey]:
        """Return the keys of a project, or of all, the oldest first."""
        condition = "1 = 1" if project_id is None else "project_id = ?"
        rows = self._store.rows(
            f"SELECT {_KEY_COLUMNS} FROM api_keys WHERE {condition} ORDER BY created_at, id",  # noqa: S608  # our own names
            () if project_id is None else (project_id,),
        )
        return [_key(row) for row in rows]

    def revoke(self, key_id: str, *, project_id: int | None = None) -> ApiKey | None:
        """
        End a key for ever; one that has been revoked before keeps its time.

        Args:
            key_id: The key's id.
            project_id: The project whose key alone may be revoked.

        Returns:
            The key, or None if there is none of that id.
        """
        condition = "id = ?" if project_id is None else "id = ? AND project_id = ?"
        values: Sequence[object] = (key_id,) if project_id is None else (key_id, project_id)
        with self._store.transaction() as transaction:
            transaction.run(
                f"UPDATE api_keys SET revoked_at = COALESCE(revoked_at, ?) WHERE {condition}",  # noqa: S608  # our own names
                (microseconds(self.now()), *values),
            )
            rows = transaction.rows(
                f"SELECT {_KEY_COLUMNS} FROM api_keys WHERE {condition}",  # noqa: S608  # our own names
                values,
            )
        return _key(rows[0]) if rows else None

    def key_of(self, secret: str) -> ApiKey | None:
        """Return the key of a secret, valid or not any more, or None if there is none."""
        id = id_of(secret)
        if id is None or "\0" in id:
            return None
        found = self.key_of_id(id)
        if found is None or not hmac.compare_digest(found[1], digest(secret)):
            return None
        return found[0]

    def key_of_id(self, key_id: str) -> tuple[ApiKey, str] | None:
        """Return the key of an id and what is stored of its secret, or None without one."""
        rows = self._store.rows(
            f"SELECT {_KEY_COLUMNS}, digest FROM api_keys WHERE id = ?",  # noqa: S608  # our own names
            (key_id,),
        )
        return (_key(rows[0]), rows[0][-1]) if rows else None

    def note_use(self, key: ApiKey) -> None:
        """Note when a key was used last, to the minute."""
        now = self.now()
        if key.last_used_at is not None and now - key.last_used_at < _USE_IS_NOTED_EVERY:
            return
        with self._store.transaction() as transaction:
            transaction.run(
                "UPDATE api_keys SET last_used_at = ? WHERE id = ?", (microseconds(now), key.id)
            )

    def has_keys(self) -> bool:
        """Return whether a key was ever made, revoked and expired ones included."""
        return bool(self._store.rows("SELECT 1 FROM api_keys LIMIT 1"))

    def has_valid_key(self) -> bool:
        """Return whether somebody can be let in."""
        now = self.now()
        return any(key.fault(now) is None for key in self.list_keys())


def _check_name(what: str, name: str) -> None:
    if not name.strip() or len(name) > _LONGEST_NAME or not name.isprintable():
        raise InvalidScopeError(
            f"{what} must have 1 to {_LONGEST_NAME} printable characters: {name[:40]!r}"
        )


def _project(row: Sequence[Any]) -> Project:
    id, organisation, name, created_at = row
    return Project(id, organisation, name, _at(created_at))


def _key(row: Sequence[Any]) -> ApiKey:
    id, project_id, name, scopes, created_at, *times = row[:8]
    expires_at, last_used_at, revoked_at = (None if t is None else _at(t) for t in times)
    return ApiKey(
        id=id,
        project_id=project_id,
        name=name,
        scopes=tuple(scopes.split()),
        created_at=_at(created_at),
        expires_at=expires_at,
        last_used_at=last_used_at,
        revoked_at=revoked_at,
    )


def _at(microseconds_since_1970: int) -> datetime:
    return _EPOCH + timedelta(microseconds=microseconds_since_1970)
