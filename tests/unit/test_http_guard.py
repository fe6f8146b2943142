"""The guard: whose requests pass, whose are refused, and that the token stays a secret."""

from __future__ import annotations

import pytest

from rota.coordinator.http import Guard, GuardConfig, check_headers
from rota.core.errors import BadRequest, Forbidden, RotaError, Unauthorized

Headers = list[tuple[bytes, bytes]]


def verdict(config: GuardConfig, headers: Headers, *, path: str = "/api/v1/tasks", scheme: str = "http") -> str:
    """``passes``, or the code of the refusal; asked twice, since names are remembered."""
    guard = Guard(config)
    found = {_verdict(guard, headers, path, scheme) for _ in range(2)}
    assert len(found) == 1, "the second look must see what the first did"
    return found.pop()


def _verdict(guard: Guard, headers: Headers, path: str, scheme: str) -> str:
    try:
        guard.check(headers, path=path, scheme=scheme)
    except RotaError as error:
        return error.code
    return "passes"


@pytest.mark.parametrize(
    "host,expected",
    [
        (b"localhost:8080", "passes"),
        (b"LOCALHOST", "passes"),
        (b"localhost.", "passes"),
        (b"127.0.0.1:9", "passes"),
        (b"127.8.8.8", "passes"),
        (b"[::1]:8080", "passes"),
        (b"rota.example:8080", "passes"),
        (b"evil.example:8080", "forbidden_host"),
        (b"localhost.evil.example", "forbidden_host"),
        (b"evil.example:localhost", "forbidden_host"),
        (b"localhost:80:evil.example", "forbidden_host"),
        (b"127.0.0.1.evil.example", "forbidden_host"),
        (b"192.168.1.5:8080", "forbidden_host"),
        (b"machine", "forbidden_host"),
        (b"", "forbidden_host"),
        (b"\xff\xfe", "forbidden_host"),
    ],
)
def test_on_loopback_only_its_names_and_the_allowed_ones_pass(host: bytes, expected: str) -> None:
    config = GuardConfig(allowed_hosts=frozenset({"Rota.Example"}), hostname="machine")
    assert verdict(config, [(b"host", host)]) == expected


@pytest.mark.parametrize(
    "host,expected",
    [
        (b"192.168.1.5:8080", "passes"),
        (b"[2001:db8::7]:8080", "passes"),
        (b"machine.lan", "passes"),
        (b"machine:8080", "passes"),
        (b"localhost", "passes"),
        (b"evil.example", "forbidden_host"),
    ],
)
@pytest.mark.parametrize("bound", ["0.0.0.0", "::", "[::]", ""])
def test_bound_to_all_addresses_any_address_and_the_own_name_pass(bound: str, host: bytes, expected: str) -> None:
    assert verdict(GuardConfig(host=bound, hostname="machine.lan"), [(b"host", host)]) == expected


def test_bound_to_one_address_only_that_one_passes() -> None:
    config = GuardConfig(host="192.168.1.5", hostname="machine")
    assert verdict(config, [(b"host", b"192.168.1.5:8080")]) == "passes"
    assert verdict(config, [(b"host", b"192.168.1.6:8080")]) == "forbidden_host"


def test_a_request_without_a_host_or_with_two_is_refused() -> None:
    assert verdict(GuardConfig(), []) == "forbidden_host"
    assert verdict(GuardConfig(), [(b"host", b"localhost"), (b"host", b"evil.example")]) == "forbidden_host"


@pytest.mark.parametrize(
    "browser,expected",
    [
        ([], "passes"),
        ([(b"origin", b"http://localhost:8080")], "passes"),
        ([(b"origin", b"http://localhost:8080"), (b"sec-fetch-site", b"same-origin")], "passes"),
        ([(b"sec-fetch-site", b"none")], "passes"),
        ([(b"origin", b"https://localhost:8080")], "forbidden_origin"),
        ([(b"origin", b"http://localhost:8081")], "forbidden_origin"),
        ([(b"origin", b"http://localhost")], "forbidden_origin"),
        ([(b"origin", b"http://evil.example")], "forbidden_origin"),
        ([(b"origin", b"null")], "forbidden_origin"),
        ([(b"origin", b"")], "forbidden_origin"),
        ([(b"sec-fetch-site", b"cross-site")], "forbidden_origin"),
        ([(b"sec-fetch-site", b"same-site")], "forbidden_origin"),
        ([(b"origin", b"http://localhost:8080"), (b"sec-fetch-site", b"cross-site")], "forbidden_origin"),
    ],
)
def test_pages_of_other_origins_are_refused(browser: Headers, expected: str) -> None:
    assert verdict(GuardConfig(), [(b"host", b"localhost:8080"), *browser]) == expected


@pytest.mark.parametrize(
    "scheme,host,origin",
    [
        ("http", b"localhost", b"http://localhost:80"),
        ("https", b"localhost:443", b"https://localhost"),
        ("ws", b"[::1]:8080", b"http://[::1]:8080"),
        ("wss", b"localhost", b"https://localhost"),
    ],
)
def test_an_origin_is_ours_however_it_is_spelt(scheme: str, host: bytes, origin: bytes) -> None:
    assert verdict(GuardConfig(), [(b"host", host), (b"origin", origin)], scheme=scheme) == "passes"


@pytest.mark.parametrize(
    "forwarded,origin,expected",
    [
        ([b"https"], b"https://localhost", "passes"),
        ([b"HTTPS, http"], b"https://localhost", "passes"),
        ([b"https"], b"http://localhost", "forbidden_origin"),
        ([b"https"], b"https://evil.example", "forbidden_origin"),
        ([b"file"], b"https://localhost", "forbidden_origin"),
        ([b"https", b"http"], b"https://localhost", "forbidden_host"),
    ],
)
@pytest.mark.parametrize("scheme", ["http", "ws"])
def test_behind_a_proxy_a_page_has_the_scheme_that_its_browser_sees(
    scheme: str, forwarded: list[bytes], origin: bytes, expected: str
) -> None:
    headers = [(b"host", b"localhost"), (b"origin", origin), *((b"x-forwarded-proto", value) for value in forwarded)]
    assert verdict(GuardConfig(), headers, scheme=scheme) == expected


@pytest.mark.parametrize(
    "given,expected",
    [
        (b"Bearer s3cret", "passes"),
        (b"bearer s3cret", "passes"),
        (b"Bearer s3cre", "unauthorized"),
        (b"Bearer s3cret2", "unauthorized"),
        (b"Bearer", "unauthorized"),
        (b"Basic s3cret", "unauthorized"),
        (b"s3cret", "unauthorized"),
        (b"Bearer \xff", "unauthorized"),
    ],
)
def test_a_token_is_asked_for_where_there_is_one(given: bytes, expected: str) -> None:
    host = (b"host", b"localhost")
    assert verdict(GuardConfig(token="s3cret"), [host, (b"authorization", given)]) == expected


def test_without_a_token_only_health_is_told() -> None:
    config = GuardConfig(token="s3cret")
    for path in ("/", "/docs", "/openapi.json", "/metrics", "/readyz", "/api/v1/tasks", "/healthz/"):
        assert verdict(config, [(b"host", b"localhost")], path=path) == "unauthorized"
    assert verdict(config, [(b"host", b"localhost")], path="/healthz") == "passes"
    assert verdict(config, [(b"host", b"evil.example")], path="/healthz") == "forbidden_host"


def test_the_token_is_shown_nowhere() -> None:
    config = GuardConfig(token="s3cret")
    assert "s3cret" not in repr(config)
    with pytest.raises(Unauthorized) as caught:
        Guard(config).check([(b"host", b"localhost"), (b"authorization", b"Bearer wr0ng")], path="/", scheme="http")
    assert "s3cret" not in str(caught.value)
    assert "wr0ng" not in str(caught.value)


@pytest.mark.parametrize("token", ["", "two words", "line\nbreak", "ü"])
def test_a_token_that_no_header_can_carry_is_refused_at_once(token: str) -> None:
    with pytest.raises(BadRequest, match="token"):
        GuardConfig(token=token)


def test_names_that_clients_choose_are_not_remembered_without_end() -> None:
    guard = Guard(GuardConfig(host="0.0.0.0"))
    for number in range(1000):
        guard.check([(b"host", b"10.0.0.1:%d" % number)], path="/", scheme="http")
    assert len(guard._known_hosts) <= 64


def test_a_handshake_is_checked_with_headers_in_any_case() -> None:
    guard = Guard(GuardConfig(token="s3cret"))
    headers = [(b"Host", b"localhost:8080"), (b"Authorization", b"Bearer s3cret")]
    check_headers(guard, headers, path="/api/v1/channel")
    with pytest.raises(Forbidden):
        check_headers(guard, [*headers, (b"Origin", b"http://evil.example")], path="/api/v1/channel")
