"""The OpenAPI 3.1 document, made of the endpoints that the server has."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from agentsight_tokens import __version__

from .endpoint import Endpoint

__all__ = ["openapi_document"]

_CONVERTER: Final = re.compile(r":\w+(?=\})")
"""What says, in a path of Starlette's, which texts a parameter takes."""
_REFERENCE: Final = "#/components/schemas/{name}"
_ALWAYS: Final = {400: "The request is malformed."}
_WITH_KEY: Final = {
    401: "There is no key, or it is not valid.",
    403: "The key does not allow this.",
    429: "The key makes too many requests; Retry-After tells the seconds to wait.",
    503: "The store does not answer; try again.",
}
_WITH_BODY: Final = {
    408: "The body came too slowly.",
    413: "The body is too large.",
    415: "The Content-Encoding is neither identity nor gzip, or the Content-Type is not known here.",
}


def openapi_document(endpoints: Iterable[Endpoint]) -> dict[str, Any]:
    """Return the document; pages are for people, and not in it."""
    all_endpoints = [each for each in endpoints if each.kind == "api"]
    kinds = [
        kind
        for each in all_endpoints
        for kind in (each.body, each.result, each.query, each.problem)
        if kind is not None
    ]
    schemas, components = msgspec.json.schema_components(kinds, ref_template=_REFERENCE)
    schema_of = dict(zip(map(id, kinds), schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for each in all_endpoints:
        operations = paths.setdefault(_CONVERTER.sub("", each.path), {})
        operations[each.method.lower()] = _operation(each, schema_of, components)
    return {
        "openapi": "3.1.0",
        "info": {"title": "agentsight-tokens", "version": __version__},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(
    endpoint: Endpoint, schema_of: dict[int, Any], components: dict[str, Any]
) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "summary": endpoint.summary,
        "operationId": endpoint.handler.__name__,
        "responses": _responses(endpoint, schema_of),
    }
    parameters = [*_path_parameters(endpoint), *_query_parameters(endpoint, components)]
    if parameters:
        operation["parameters"] = parameters
    if endpoint.body is not None:
        operation["requestBody"] = {
            "required": True,
            "content": _content(endpoint, schema_of[id(endpoint.body)]),
        }
    if endpoint.scope is not None:
        operation["security"] = [{"key": []}]
        operation["description"] = (
            "Any valid key will do."
            if endpoint.scope == "any"
            else f"The key needs the scope `{endpoint.scope}`."
        )
    return operation


def _content(endpoint: Endpoint, schema: Any) -> dict[str, Any]:
    content = {"application/json": {"schema": schema}}
    if endpoint.binary is not None:
        content[endpoint.binary] = {"schema": {"type": "string", "format": "binary"}}
    return content


def _responses(endpoint: Endpoint, schema_of: dict[int, Any]) -> dict[str, Any]:
    if endpoint.result is None:
        text = {"schema": {"type": "string"}}
        content = dict.fromkeys(endpoint.media_types, text)
    else:
        content = _content(endpoint, schema_of[id(endpoint.result)])
    problem = _content(endpoint, schema_of[id(endpoint.problem)])
    problems = dict(_ALWAYS)
    if endpoint.scope is not None:
        problems |= _WITH_KEY
    if endpoint.body is not None:
        problems |= _WITH_BODY
    if "{" in endpoint.path:
        problems[404] = "The project has nothing of that name."
    return {
        str(endpoint.status): {"description": "Done.", "content": content},
        **{
            str(status): {"description": text, "content": problem}
            for status, text in sorted(problems.items())
        },
    }


def _path_parameters(endpoint: Endpoint) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"\{(\w+)", endpoint.path)
    ]


def _query_parameters(endpoint: Endpoint, components: dict[str, Any]) -> list[dict[str, Any]]:
    if endpoint.query is None:
        return []
    schema = components[endpoint.query.__name__]
    return [
        {"name": name, "in": "query", "required": name in schema.get("required", ()), "schema": s}
        for name, s in schema["properties"].items()
    ]
