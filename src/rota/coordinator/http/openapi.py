"""The OpenAPI document, made from the table of routes.

OpenAPI 3.1 is what is published. The Swagger UI that can be had as a Python package reads 3.0 only, so
the page gets the same document said in those words (`as_openapi_30`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, TypeAlias

import msgspec

from rota import __version__
from rota.coordinator.http.endpoint import Documented, Endpoint
from rota.coordinator.http.errors import ErrorJson, status_of
from rota.core.errors import BadRequest, Forbidden, RotaError, Unauthorized

__all__ = ["Json", "as_openapi_30", "openapi_document"]

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

_REF: Final = "#/components/schemas/{name}"
_EVERYWHERE: Final[tuple[type[RotaError], ...]] = (BadRequest, Unauthorized, Forbidden)
_BYTES: Final[dict[str, Json]] = {"type": "string", "format": "binary"}
_GROUPS: Final = {
    "tasks": "Submit tasks and see what becomes of them.",
    "nodes": "The workers.",
    "placement-only": "For those who keep their own workers: who should have a task?",
    "calendars": "What runs when the wall clock says so.",
    "blobs": "Functions and large values, named by the SHA-256 of their bytes.",
    "cluster": "The whole: events, counts, health.",
}


def openapi_document(endpoints: Sequence[Endpoint]) -> dict[str, Json]:
    """Describe the endpoints in OpenAPI 3.1."""
    schemas = _Schemas(endpoints)
    paths: dict[str, Json] = {}
    for endpoint in endpoints:
        methods = paths.setdefault(endpoint.shown_path, {})
        assert isinstance(methods, dict)
        methods[endpoint.method.lower()] = _operation(endpoint, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Rota", "version": __version__, "description": "A distributed task scheduler."},
        "tags": [{"name": name, "description": text} for name, text in _GROUPS.items()],
        "paths": paths,
        "components": {
            "schemas": schemas.components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        # Either a token or none: whether one is asked for is the operator's choice.
        "security": [{"token": []}, {}],
    }


class _Schemas:
    """The schemas of all types that the endpoints name, each described once."""

    def __init__(self, endpoints: Iterable[Endpoint]) -> None:
        named: list[object] = [ErrorJson]
        for endpoint in endpoints:
            named += [answer.content for answer in endpoint.answers if answer.content is not None]
            if endpoint.body is not None and endpoint.body.content is not None:
                named.append(endpoint.body.content)
        found, components = msgspec.json.schema_components(named, ref_template=_REF)
        self.components: dict[str, Json] = dict(components)
        # By place, not in a dictionary of types: equal unions need not hash alike.
        self._found: list[tuple[object, Json]] = list(zip(named, found, strict=True))

    def of(self, content: object) -> Json:
        return next(schema for named, schema in self._found if named == content)


def _operation(endpoint: Endpoint, schemas: _Schemas) -> dict[str, Json]:
    operation: dict[str, Json] = {
        "operationId": endpoint.handler.__name__,
        "summary": endpoint.summary,
        "tags": [endpoint.group],
        "responses": _responses(endpoint, schemas),
    }
    parameters = [*_path_parameters(endpoint.shown_path), *_query_parameters(endpoint)]
    if parameters:
        operation["parameters"] = parameters
    if endpoint.body is not None:
        content = endpoint.body.content
        schema: Json = _BYTES if content is None else schemas.of(content)
        operation["requestBody"] = {
            "required": True,
            "description": endpoint.body.meaning,
            "content": {endpoint.body.media_type: {"schema": schema}},
        }
    return operation


def _responses(endpoint: Endpoint, schemas: _Schemas) -> dict[str, Json]:
    responses: dict[str, Json] = {}
    for answer in endpoint.answers:
        responses[str(answer.status)] = _response(answer, schemas)
    for error in sorted({*_EVERYWHERE, *endpoint.errors}, key=status_of):
        meaning = (error.__doc__ or error.code).split("\n", 1)[0]
        documented = _response(Documented(status_of(error), meaning, ErrorJson), schemas)
        responses.setdefault(str(status_of(error)), documented)  # unless the endpoint has a form of its own
    return responses


def _response(answer: Documented, schemas: _Schemas) -> Json:
    schema: Json = {"type": "string"} if answer.content is None else schemas.of(answer.content)
    return {"description": answer.meaning, "content": {answer.media_type: {"schema": schema}}}


def _path_parameters(path: str) -> list[Json]:
    names = [part[1:-1] for part in path.split("/") if part.startswith("{")]
    return [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]


def _query_parameters(endpoint: Endpoint) -> list[Json]:
    _, components = msgspec.json.schema_components([endpoint.query], ref_template=_REF)
    properties: Mapping[str, dict[str, Json]] = components[endpoint.query.__name__]["properties"]
    return [
        {
            "name": name,
            "in": "query",
            "description": schema.get("description", ""),
            "schema": {key: value for key, value in schema.items() if key != "description"},
        }
        for name, schema in properties.items()
    ]


def as_openapi_30(document: dict[str, Json]) -> dict[str, Json]:
    """Say a 3.1 document in the words of 3.0, where ``null`` is no type but a property of others."""
    converted = _without_null_types(document)
    assert isinstance(converted, dict)
    return {**converted, "openapi": "3.0.3"}


def _without_null_types(node: Json) -> Json:
    if isinstance(node, list):
        return [_without_null_types(part) for part in node]
    if not isinstance(node, dict):
        return node
    choices = node.get("anyOf")
    if isinstance(choices, list) and {"type": "null"} in choices:
        return _nullable({key: value for key, value in node.items() if key != "anyOf"}, choices)
    return {key: _without_null_types(value) for key, value in node.items()}


def _nullable(rest: dict[str, Json], choices: list[Json]) -> Json:
    kept = [_without_null_types(choice) for choice in choices if choice != {"type": "null"}]
    only = kept[0]
    if len(kept) == 1 and isinstance(only, dict) and "$ref" not in only:
        return {**rest, **only, "nullable": True}
    # Beside a reference 3.0 reads nothing, so it goes one level down.
    return {**rest, "anyOf": kept, "nullable": True}
