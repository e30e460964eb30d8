"""Pages: a query becomes a view, and a view a page, within what all pages have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from http import HTTPStatus
from typing import Any, Final, NamedTuple, ParamSpec, TypeVar

import msgspec
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from agentsight_tokens import __version__
from agentsight_tokens.backend.api_key import Access, KeyScope
from agentsight_tokens.backend.endpoint import ANYONE, FORM_TOKEN, Asked, Endpoint, Server
from agentsight_tokens.backend.problem import Problem
from agentsight_tokens.errors import InvalidBudgetError, InvalidQueryError, InvalidScopeError

from . import figures
from .files import address_of_file
from .period import PRESETS
from .selection import FILTERS, Selection, address

__all__ = ["Chrome", "page", "page_of_problem", "part", "rendered", "telling_queries", "to_page"]

_HEADERS: Final = {
    "Content-Security-Policy": "; ".join(
        (
            "default-src 'none'",
            *(f"{kind}-src 'self'" for kind in ("script", "style", "img", "connect", "font")),
            "form-action 'self'",
            "base-uri 'none'",
            "frame-ancestors 'none'",
        )
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    # With no-referrer browsers would not tell the origin of forms, by which these are checked.
    "Referrer-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}
_THEMES: Final = {"light", "dark"}
_THEME_COOKIE: Final = "agentsight_theme"

_templates: Final = Environment(
    loader=PackageLoader("agentsight_tokens.backend.dashboard"),
    autoescape=True,
    auto_reload=False,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_templates.globals.update(
    file=address_of_file,
    address=address,
    version=__version__,
    presets=PRESETS,
    filter_names=FILTERS,
    form_field=FORM_TOKEN,
    share=figures.share,
    count=figures.count,
    money=figures.money,
    cost_of=figures.cost_of,
    plural=figures.plural,
)

_Given = ParamSpec("_Given")
_Query = TypeVar("_Query", bound=msgspec.Struct)


class _Link(NamedTuple):
    path: str
    title: str
    icon: str
    scope: KeyScope
    is_selective: bool
    """Whether the selection goes along."""


_LINKS: Final = (
    _Link("/", "Overview", "overview", "read", is_selective=True),
    _Link("/usage", "Usage", "usage", "read", is_selective=True),
    _Link("/conversations", "Conversations", "conversations", "read", is_selective=True),
    _Link("/insights", "Insights", "insights", "read", is_selective=True),
    _Link("/models", "Models", "models", "read", is_selective=True),
    _Link("/budgets", "Budgets", "budgets", "read", is_selective=False),
    _Link("/prices", "Prices", "prices", "read", is_selective=False),
    _Link("/keys", "Keys", "keys", "admin", is_selective=False),
)


class Chrome(NamedTuple):
    """What all pages have around them."""

    title: str
    project: str
    access: Access
    links: tuple[tuple[_Link, str, bool], ...]
    """Each with its address, and whether it is the page that is shown."""
    theme: str | None
    """light or dark; None as the browser likes it."""

    @property
    def form_token(self) -> str:
        """What forms carry; nothing where there is no session."""
        return self.access.form_token or ""

    @property
    def has_session(self) -> bool:
        """Whether somebody is logged in, who may log out."""
        return self.access.form_token is not None

    @property
    def may_change(self) -> bool:
        """Whether forms that change something are shown."""
        return self.access.allows("admin")


def page(
    path: str,
    view_of: Callable[[Asked, _Query], Mapping[str, Any]],
    query: type[_Query],
    *,
    template: str,
    title: str,
    scope: KeyScope = "read",
) -> Endpoint:
    """
    Return the endpoint of a page.

    Args:
        path: Where it is.
        view_of: What the template shows, by name; `selection` is among it where there is one.
        query: The parameters of its address.
        template: The name of the template.
        title: The page's name.
        scope: What the key must be allowed.
    """

    @telling_queries
    def made(asked: Asked) -> Response:
        view = view_of(asked, asked.query(query))
        return rendered(asked, template, title=title, **view)

    async def respond(asked: Asked) -> Response:
        return await run_in_threadpool(made, asked)

    return Endpoint("GET", path, respond, scope, f"Show {title}.", query=query, kind="page")


def telling_queries(read: Callable[_Given, Response]) -> Callable[_Given, Response]:
    """Return what answers 400 where an address asks analytics for what there is not."""

    @wraps(read)
    def told(*given: _Given.args, **named: _Given.kwargs) -> Response:
        try:
            return read(*given, **named)
        except (InvalidBudgetError, InvalidQueryError, InvalidScopeError) as error:
            raise Problem(400, str(error)) from None

    return told


def rendered(
    asked: Asked, template: str, *, title: str, status: int = 200, **view: object
) -> Response:
    """Return a page; it reads the name of the project."""
    project = asked.server.accounts.project_of(asked.access.project_id)
    name = "" if project is None else f"{project.organisation} / {project.name}"
    selection = view.get("selection")
    chrome = _chrome(asked, title, name, selection if isinstance(selection, Selection) else None)
    text = _templates.get_template(template).render(chrome=chrome, **view)
    return HTMLResponse(text, status, _HEADERS)


def part(template: str, **view: object) -> Response:
    """Return a part of a page, which htmx puts in its place."""
    return HTMLResponse(_templates.get_template(template).render(**view), headers=_HEADERS)


def to_page(path: str) -> Response:
    """Send the browser to another page."""
    return RedirectResponse(path, 303, _HEADERS)


def page_of_problem(request: Request, server: Server, problem: HTTPException) -> Response:
    """Return what a browser is shown when it does not get what it asked for."""
    access: Access = getattr(request.state, "access", ANYONE)
    headers = {**_HEADERS, **(problem.headers or {})}
    if problem.status_code == HTTPStatus.UNAUTHORIZED:
        return _to_login(request)
    asked = Asked(request, server, access)
    text = _templates.get_template("problem.html").render(
        chrome=_chrome(asked, HTTPStatus(problem.status_code).phrase, "", None),
        status=problem.status_code,
        message=str(problem.detail),
    )
    return HTMLResponse(text, problem.status_code, headers)


def _to_login(request: Request) -> Response:
    path = request.url.path
    came_from = f"{path}?{request.url.query}" if request.url.query else path
    is_worth_it = request.method == "GET" and path not in {"/", "/logout"}
    login = address("/login", {"next": came_from if is_worth_it else None})
    if "HX-Request" in request.headers:
        # A redirect would be followed at once, and the login be put into a part of the page.
        return Response(status_code=401, headers={**_HEADERS, "HX-Redirect": login})
    return to_page(login)


def _chrome(asked: Asked, title: str, project: str, selection: Selection | None) -> Chrome:
    path = asked.request.url.path
    shared = {} if selection is None else selection.shared
    theme = asked.request.cookies.get(_THEME_COOKIE)
    return Chrome(
        title=title,
        project=project,
        access=asked.access,
        links=tuple(
            (
                link,
                address(link.path, shared if link.is_selective else {}),
                path == link.path or (link.path != "/" and path.startswith(f"{link.path}/")),
            )
            for link in _LINKS
            if asked.access.allows(link.scope)
        ),
        theme=theme if theme in _THEMES else None,
    )
