"""The files that pages load: scripts, styles, icons; all of them come with the package."""

from __future__ import annotations

import gzip
import hashlib
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Final, NamedTuple

from starlette.responses import Response

from agentsight_tokens.backend.endpoint import Asked, Endpoint
from agentsight_tokens.backend.problem import Problem

if TYPE_CHECKING:
    from importlib.abc import Traversable

__all__ = ["ENDPOINTS", "address_of_file"]

_KINDS: Final = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}
_FOR_EVER: Final = "public, max-age=31536000, immutable"
_ASK_AGAIN: Final = "public, no-cache"


class _File(NamedTuple):
    content: bytes
    zipped: bytes
    digest: str
    kind: str


@cache
def _files() -> dict[str, _File]:
    return dict(_files_in(files(__package__) / "static", ""))


def _files_in(directory: Traversable, prefix: str) -> list[tuple[str, _File]]:
    found = []
    for each in directory.iterdir():
        name = f"{prefix}{each.name}"
        if each.is_dir():
            found += _files_in(each, f"{name}/")
            continue
        kind = _KINDS.get(name[name.rfind(".") :])
        if kind is not None:
            content = each.read_bytes()
            digest = hashlib.sha256(content).hexdigest()[:16]
            found.append((name, _File(content, gzip.compress(content, mtime=0), digest, kind)))
    return found


def address_of_file(name: str) -> str:
    """Return the address of a file, which changes when the file does."""
    return f"/static/{name}?v={_files()[name].digest}"


async def get_file(asked: Asked) -> Response:
    """Send a file; browsers keep it."""
    file = _files().get(asked.request.path_params["name"])
    if file is None:
        raise Problem(404, "there is no such file")
    is_this = asked.request.query_params.get("v") == file.digest
    headers = {
        "ETag": f'"{file.digest}"',
        "Cache-Control": _FOR_EVER if is_this else _ASK_AGAIN,
        "Vary": "Accept-Encoding",
    }
    if f'"{file.digest}"' in asked.request.headers.get("If-None-Match", ""):
        return Response(status_code=304, headers=headers)
    content = file.content
    if "gzip" in asked.request.headers.get("Accept-Encoding", ""):
        content = file.zipped
        headers["Content-Encoding"] = "gzip"
    return Response(content, headers=headers, media_type=file.kind)


ENDPOINTS: Final = (
    Endpoint("GET", "/static/{name:path}", get_file, None, "Send a file.", kind="page"),
)
