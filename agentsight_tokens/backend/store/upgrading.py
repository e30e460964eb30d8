"""The version of a PostgreSQL database: what it is, what it must be, and how it gets there."""

from __future__ import annotations

from typing import Final

from agentsight_tokens.errors import ConfigurationError

__all__ = ["HEAD", "VERSION_QUERY", "upgrade"]

HEAD: Final = "0007"
"""The step that this version of the program needs."""

VERSION_QUERY: Final = "SELECT version_num FROM alembic_version"
_LOCK: Final = 0x6167656E74_01
"""Of those who upgrade: they do it one after another."""


def upgrade(database_url: str) -> None:
    """
    Bring a database to the tables of this version; one that has them is left as it is.

    Raises:
        ConfigurationError: If Alembic is not installed.
    """
    try:
        from alembic import command
        from alembic.config import Config
        from sqlalchemy import create_engine, text
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"`db upgrade` needs {error.name}: pip install 'agentsight-tokens[postgres]'"
        ) from None
    config = Config()
    config.set_main_option("script_location", "agentsight_tokens.backend.store:migrations")
    _, _, address = database_url.partition("://")
    engine = create_engine(f"postgresql+psycopg://{address}")
    try:
        with engine.begin() as connection:
            connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    finally:
        engine.dispose()
