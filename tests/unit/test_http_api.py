"""The table of routes, the document made from it, the pages, and that both are written about."""

from __future__ import annotations

import inspect
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from msgspec.structs import replace

from rota.coordinator.http import GuardConfig, build_app
from rota.coordinator.http.errors import status_of
from rota.coordinator.http.openapi import as_openapi_30, openapi_document
from rota.coordinator.http.routes import API, ENDPOINTS
from rota.coordinator.metrics import Counters
from rota.core import errors
from rota.core.model import Gpu, Offer
from rota.store.blobs import BlobStore
from tests.support.fake_service import FakeService
from tests.support.house import ROOT

REFERENCE = (ROOT / "docs" / "reference" / "rest.md").read_text(encoding="utf-8")


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@pytest.fixture
def counters() -> Counters:
    return Counters()


@pytest.fixture
async def client(service: FakeService, counters: Counters) -> AsyncIterator[httpx.AsyncClient]:
    app = build_app(service, guard=GuardConfig(), counters=counters, blobs=BlobStore(None))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as found:
        yield found


def all_errors() -> list[type[errors.RotaError]]:
    found = [getattr(errors, name) for name in errors.__all__]
    return [one for one in found if inspect.isclass(one) and issubclass(one, errors.RotaError)]


def references(node: Any) -> Iterator[str]:  # a JSON document
    if isinstance(node, dict):
        if "$ref" in node:
            yield node["$ref"]
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def test_the_document_has_every_endpoint_and_refers_to_nothing_that_is_not_there() -> None:
    document: Any = openapi_document(API)
    described = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert described == {(endpoint.method, endpoint.shown_path) for endpoint in API}
    schemas = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert set(references(document)) <= schemas


def test_endpoint_with_a_form_of_its_own_for_errors_is_described_with_it() -> None:
    document: Any = openapi_document(API)
    responses = document["paths"]["/submit-task"]["post"]["responses"]
    forms = {status: list(references(response)) for status, response in responses.items()}
    own, usual = ["#/components/schemas/SubmittedJson"], ["#/components/schemas/ErrorJson"]
    assert forms == {**dict.fromkeys(("201", "400", "409", "413", "429", "503"), own), "401": usual, "403": usual}


def test_operations_have_names_of_their_own() -> None:
    names = [endpoint.handler.__name__ for endpoint in API]
    assert len(set(names)) == len(names)


def test_parameters_are_described_with_types_and_limits() -> None:
    document: Any = openapi_document(API)
    parameters = {one["name"]: one for one in document["paths"]["/api/v1/tasks"]["get"]["parameters"]}
    assert parameters["limit"]["schema"] == {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100}
    assert parameters["since"]["schema"]["format"] == "date-time"
    assert all(one["description"] for one in parameters.values())
    (task_id,) = (one for one in document["paths"]["/api/v1/tasks/{id}"]["delete"]["parameters"])
    assert (task_id["name"], task_id["in"], task_id["required"]) == ("id", "path", True)


def test_the_older_document_knows_no_null_type() -> None:
    text = repr(as_openapi_30(openapi_document(API)))
    assert "'null'" not in text
    assert "'nullable': True" in text
    assert "'openapi': '3.0.3'" in text


async def test_the_page_and_all_that_it_loads_come_from_ourselves(client: httpx.AsyncClient) -> None:
    page = await client.get("/", follow_redirects=True)
    assert page.url.path == "/docs"
    assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(loaded) == 4
    for address in [*loaded, "/docs/openapi-3.0.json", "/openapi.json"]:
        assert address.startswith("/")
        assert (await client.get(address)).status_code == 200, address
    assert (await client.get("/openapi.json")).json()["openapi"] == "3.1.0"
    start = (await client.get("/docs/start.js")).text
    assert "/docs/openapi-3.0.json" in start


@pytest.mark.parametrize("name", ["index.html", "..%2f__init__.py", "swagger-ui-bundle.js.map", "%2e%2e"])
async def test_nothing_else_of_the_package_is_served(client: httpx.AsyncClient, name: str) -> None:
    assert (await client.get(f"/docs/{name}")).status_code == 404


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: f"{endpoint.method} {endpoint.path}")
async def test_every_route_is_behind_the_guard(service: FakeService, endpoint: Any) -> None:
    app = build_app(service, guard=GuardConfig(token="s3cret"), counters=Counters(), blobs=BlobStore(None))
    path = re.sub(r"\{\w+\}", "x", endpoint.shown_path)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        bare = await client.request(endpoint.method, path)
        assert bare.status_code == (200 if path == "/healthz" else 401)
        if bare.status_code == 401:
            assert bare.headers["www-authenticate"] == "Bearer"
        for headers in ({"Origin": "http://evil.example"}, {"Host": "evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
            answer = await client.request(endpoint.method, path, headers=headers)
            assert answer.status_code == 403
            assert answer.json()["code"] in ("forbidden_origin", "forbidden_host")


async def test_health_and_readiness(client: httpx.AsyncClient, service: FakeService) -> None:
    assert (await client.get("/healthz")).json() == {"status": "ok"}
    assert (await client.get("/readyz")).json() == {"status": "ready"}
    service.ready = False
    answer = await client.get("/readyz")
    assert (answer.status_code, answer.json()["code"]) == (503, "not_ready")
    assert (await client.get("/healthz")).status_code == 200


async def test_the_metrics_page_is_passed_on(client: httpx.AsyncClient) -> None:
    answer = await client.get("/metrics")
    assert answer.text == "rota_epoch 3.0\n"
    assert answer.headers["content-type"].startswith("text/plain; version=")


async def test_a_running_task_says_how_far_it_is(client: httpx.AsyncClient, service: FakeService) -> None:
    task = (await client.post("/api/v1/tasks", json={"command": ["true"]})).json()
    assert task["progress"] is None
    service.start(task["id"])
    service.mark(task["id"], 0.4, "parsing")
    told = (await client.get(f"/api/v1/tasks/{task['id']}")).json()
    assert told["progress"] == {"fraction": 0.4, "text": "parsing"}


async def test_a_function_is_taken_and_shown_with_its_arguments(client: httpx.AsyncClient) -> None:
    fields = {"function": "ab" * 32, "callable": "tools.resize", "python": "3.11", "args": "AAEC", "blobs": ["cd" * 32]}
    task = (await client.post("/api/v1/tasks", json=fields)).json()
    assert (task["kind"], task["name"]) == ("function", None)
    assert {field: task[field] for field in fields} == fields
    (listed,) = (await client.get("/api/v1/tasks")).json()
    assert listed["callable"] == "tools.resize"
    assert listed.keys().isdisjoint({"args", "blobs"})


async def test_nodes_are_shown_drained_and_resumed(client: httpx.AsyncClient, service: FakeService) -> None:
    offer = Offer((("cpu", 4000),), frozenset({"b", "a"}), gpus=(Gpu(16, "X"),))
    service.add_node("w2", offer=replace(offer, python="3.11", packages={"numpy": "2.0"}))
    service.add_node("w1", offer=Offer(resources=()))
    nodes = (await client.get("/api/v1/nodes")).json()
    assert [node["id"] for node in nodes] == ["w1", "w2"]
    node = (await client.get("/api/v1/nodes/w2")).json()
    assert node == {**nodes[1], "packages": {"numpy": "2.0"}}, "lists leave packages out"
    assert (node["python"], nodes[0]["python"]) == ("3.11", None)
    assert (node["state"], node["tags"], node["resources"]) == ("online", ["a", "b"], {"cpu": 4000})
    assert (node["gpus"], node["registered_at"]) == ([{"memory": 16, "model": "X"}], "2026-01-01T00:00:00.250Z")
    drained = (await client.post("/api/v1/nodes/w2/drain")).json()
    assert (drained["state"], drained["drained"]) == ("draining", True)
    assert (await client.post("/api/v1/nodes/w2/resume")).json()["state"] == "online"
    for method, path in (("GET", "w9"), ("POST", "w9/drain"), ("POST", "w9/resume")):
        assert (await client.request(method, f"/api/v1/nodes/{path}")).status_code == 404


async def test_stats_name_states_by_their_words(client: httpx.AsyncClient) -> None:
    await client.post("/api/v1/tasks", json={"shell": ":"})
    stats = (await client.get("/api/v1/stats")).json()
    assert (stats["tasks"]["pending"], stats["reasons"], stats["epoch"]) == (1, {"no-workers": 1}, 3)


async def test_requests_are_counted_by_route_not_by_path(client: httpx.AsyncClient, counters: Counters) -> None:
    for path in ("/api/v1/tasks/t1", "/api/v1/tasks/t2", "/api/v1/nodes", "/x", "/y"):
        await client.get(path)
    await client.get("/x", headers={"Host": "evil.example"})
    assert counters.http_requests == {
        ("/api/v1/tasks/{id}", "GET", 404): 2,
        ("/api/v1/nodes", "GET", 200): 1,
        ("unmatched", "any", 404): 2,
        ("refused", "any", 403): 1,
    }


@pytest.mark.parametrize("error", all_errors(), ids=lambda error: error.__name__)
def test_every_error_has_a_status_and_is_documented(error: type[errors.RotaError]) -> None:
    tree = [line for line in (errors.__doc__ or "").splitlines() if f" {error.__name__} " in line]
    if error is errors.RotaError or "raised by" in tree[0]:
        return  # the root of the tree, and what only clients raise
    assert 400 <= status_of(error) <= 503
    assert f"`{error.code}`" in REFERENCE


@pytest.mark.parametrize(
    "code", ["bad_query", "forbidden_host", "forbidden_origin", "not_ready", "method_not_allowed", "internal"]
)
def test_the_codes_of_the_edge_are_documented(code: str) -> None:
    assert f"`{code}`" in REFERENCE


@pytest.mark.parametrize("endpoint", API, ids=lambda endpoint: f"{endpoint.method} {endpoint.path}")
def test_every_endpoint_and_parameter_is_documented(endpoint: Any) -> None:
    assert f"`{endpoint.method} {endpoint.shown_path}`" in REFERENCE
    for name in endpoint.query.__struct_fields__:
        assert f"`{name}`" in REFERENCE


async def test_a_request_for_a_channel_that_lost_its_upgrade_says_what_a_proxy_must_do(
    client: httpx.AsyncClient,
) -> None:
    answer = await client.get("/api/v1/channel")
    assert (answer.status_code, answer.headers["upgrade"]) == (426, "websocket")
    assert answer.json()["code"] == "upgrade_required"
    assert (
        "a proxy on the way must use HTTP/1.1 and pass on the headers Upgrade and Connection" in answer.json()["error"]
    )
