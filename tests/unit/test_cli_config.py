"""Configurations refuse nonsense with a sentence, and options give them back unchanged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from rota.cli.coordinator import arguments_of, coordinator_config, coordinator_options
from rota.cli.worker import command as worker_command
from rota.cli.worker import worker_config
from rota.coordinator.config import CoordinatorConfig
from rota.worker.config import WorkerConfig


@pytest.mark.parametrize(
    "fields,sentence",
    [
        ({"host": "0.0.0.0"}, "set a token"),
        ({"host": ""}, "host is empty"),
        ({"port": 70_000}, "port must be 0 to 65535, got 70000"),
        ({"store": "oracle"}, "store must be one of sqlite, memory"),
        ({"token": ""}, "token is empty"),
        ({"token": "a\nb"}, "printable ASCII"),
        ({"max_pending": 0}, "max_pending must be at least 1"),
        ({"heartbeat_s": 0.0}, "heartbeat_s must be more than 0"),
        ({"heartbeat_s": float("nan")}, "heartbeat_s must be more than 0"),
        ({"heartbeat_s": 9.0}, "at least twice heartbeat_s"),
        ({"offline_after_s": 10.0}, "offline_after_s must be more than suspicious_after_s"),
        ({"kill_grace_s": -1.0}, "kill_grace_s must be at least 0"),
        ({"lease_s": 5.0}, "lease_s must be at least twice heartbeat_s"),
        ({"lease_grace_s": -1.0}, "lease_grace_s must be at least 0"),
        ({"exclusive_wait_s": 35.0}, "exclusive_wait_s must be more than lease_s and lease_grace_s together"),
        ({"retention_tasks": 0}, "retention_tasks must be at least 1"),
        ({"log_retention_bytes": 1}, "log_retention_bytes must be at least"),
        ({"blob_retention_bytes": 1}, "blob_retention_bytes must be at least"),
    ],
)
def test_a_coordinator_refuses_nonsense(fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        CoordinatorConfig(**fields)


@pytest.mark.parametrize(
    "arguments,expected",
    [([], False), (["--workload"], True), (["--workload=true"], True), (["--workload=false"], False)],
)
def test_a_load_of_its_own_can_be_asked_for_with_a_word_or_without(arguments: list[str], *, expected: bool) -> None:
    @click.command()
    @coordinator_options
    def command(**given: Any) -> None:
        assert coordinator_config(given).workload is expected

    command.main(arguments, standalone_mode=False)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "localhost", "::1"])
def test_loopback_needs_no_token(host: str) -> None:
    assert CoordinatorConfig(host=host).is_loopback


def test_the_world_needs_a_token_or_a_word() -> None:
    assert not CoordinatorConfig(host="0.0.0.0", token="secret").is_loopback
    assert not CoordinatorConfig(host="10.0.0.1", insecure=True).is_loopback


def test_a_token_is_not_shown() -> None:
    assert "secret" not in repr(CoordinatorConfig(token="secret"))
    assert "secret" not in repr(WorkerConfig(id="w1", token="secret"))


@pytest.mark.parametrize(
    "fields,sentence",
    [
        ({"id": ""}, "id must be"),
        ({"id": "a/b"}, "id must be"),
        ({"server": "10.0.0.1:8080"}, "server must be a URL"),
        ({"server": "http://h:99999"}, "server must be a URL"),
        ({"server": "grpc://h:50051"}, "got 'grpc://h:50051'; where it speaks gRPC is told by grpc_server"),
        ({"transport": "carrier-pigeon"}, "transport must be one of websocket, grpc"),
        ({"grpc_server": "h:50051"}, "grpc_server goes with transport=grpc"),
        ({"transport": "grpc", "grpc_server": "http://h:8080"}, "grpc_server must be HOST:PORT"),
        ({"transport": "grpc", "grpc_server": "h:port"}, "grpc_server must be HOST:PORT"),
        ({"transport": "grpc", "grpc_server": "h:50051/path"}, "grpc_server must be HOST:PORT"),
        ({"transport": "grpc", "grpc_server": ""}, "grpc_server must be HOST:PORT"),
        ({"tags": frozenset({"a b"})}, "'a b' is not a tag"),
        ({"max_tasks": 0}, "max_tasks must be 1 to"),
        ({"resources": {"cpu": -1}}, "cpu can't be negative"),
        ({"resources": {"gpu": 1}}, "say gpus=1"),
        ({"overcommit": {"gpu": 2.0}}, "gpu is a device"),
        ({"overcommit": {"cpu": 0.0}}, "the factor of cpu must be 0.01 to 100, got 0"),
        ({"overcommit": {"CPU": 2.0}}, "'CPU' can't be a name"),
        ({"output_limit_bytes": 1}, "output_limit_bytes must be at least"),
        ({"ca_file": Path("no-such-file")}, "is not a file"),
        ({"cache_dir": Path(__file__)}, "cache_dir .* is not a directory"),
        ({"cache_limit_bytes": 1}, "cache_limit_bytes must be at least"),
    ],
)
def test_a_worker_refuses_nonsense(fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        WorkerConfig(**{"id": "w1", **fields})


@pytest.mark.parametrize(
    "server,grpc_server,url",
    [
        ("http://10.0.0.1:8080", None, "grpc://10.0.0.1:50051"),
        ("https://rota.example/lab", None, "grpcs://rota.example:50051"),
        ("http://[::1]:8080", None, "grpc://[::1]:50051"),
        ("http://10.0.0.1:8080", "mesh:15051", "grpc://mesh:15051"),
        ("http://10.0.0.1:8080", "[::1]:15051", "grpc://[::1]:15051"),
        ("http://10.0.0.1:8080", "grpcs://mesh", "grpcs://mesh"),
    ],
)
def test_a_worker_over_grpc_goes_to_the_host_of_its_server_unless_told(
    server: str, grpc_server: str | None, url: str
) -> None:
    assert WorkerConfig(id="w1", server=server, transport="grpc", grpc_server=grpc_server).channel_url == url
    assert WorkerConfig(id="w1", server=server).channel_url == server


def parsed(arguments: list[str]) -> CoordinatorConfig:
    """The configuration that these options give."""
    found: list[CoordinatorConfig] = []

    @click.command()
    @coordinator_options
    def probe(**given: Any) -> None:
        found.append(coordinator_config(given))

    result = CliRunner().invoke(probe, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return found[0]


def test_options_alone_give_the_defaults_of_the_configuration() -> None:
    assert parsed([]) == CoordinatorConfig()


@given(
    st.builds(
        CoordinatorConfig,
        host=st.sampled_from(["127.0.0.1", "localhost", "::1"]),
        port=st.integers(0, 65_535),
        state_dir=st.sampled_from([Path("state"), Path("/tmp/a b")]),
        store=st.sampled_from(["sqlite", "memory"]),
        durability=st.sampled_from(["full", "relaxed"]),
        insecure=st.booleans(),
        allow_hosts=st.tuples(st.sampled_from(["a.example", "b"])),
        heartbeat_s=st.floats(0.01, 5.0),
        retention_s=st.floats(1.0, 1e9),
        log_retention_bytes=st.integers(1 << 20, 1 << 50),
        blob_retention_bytes=st.integers(1 << 20, 1 << 50),
        shadow=st.none() | st.just("binpack"),
        seed=st.none() | st.integers(0, 2**63),
        workload=st.booleans(),
    )
)
def test_a_configuration_survives_the_command_line(config: CoordinatorConfig) -> None:
    assert parsed(arguments_of(config)) == config


def test_a_token_travels_by_file_or_environment_never_by_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret\n")
    assert parsed([f"--token-file={tmp_path}/token"]).token == "secret"
    assert "secret" not in " ".join(arguments_of(CoordinatorConfig(token="secret")))


def test_nonsense_options_are_a_usage_error_in_one_sentence() -> None:
    result = CliRunner().invoke(worker_command, ["--max-tasks", "0"])
    assert result.exit_code == 2
    assert "--max-tasks must be 1 to 100,000, got 0" in result.stderr


def test_worker_takes_the_flags_of_dtask_scheduler() -> None:
    flags = ["--id", "w-1", "--addr", "10.0.0.1:9000", "--tags", "gpu,cuda-12.0", "--max-tasks", "30"]
    context = worker_command.make_context("worker", [*flags, "--scheduler", "http://10.0.0.9:8080"])
    config = worker_config(context.params)
    assert (config.id, config.addr, config.server) == ("w-1", "10.0.0.1:9000", "http://10.0.0.9:8080")
    assert (config.tags, config.max_tasks) == (frozenset({"gpu", "cuda-12.0"}), 30)


@pytest.mark.parametrize(
    "flags,url",
    [
        (["--grpc-server", "10.0.0.9:50051"], "grpc://10.0.0.9:50051"),
        (["--grpc-server", "grpcs://mesh", "--transport", "grpc"], "grpcs://mesh"),
        (["--transport", "grpc", "--server", "http://10.0.0.9:8080"], "grpc://10.0.0.9:50051"),
        (["--server", "http://10.0.0.9:8080"], "http://10.0.0.9:8080"),
    ],
)
def test_worker_needs_only_the_address_of_its_transport(flags: list[str], url: str) -> None:
    assert worker_config(worker_command.make_context("worker", flags).params).channel_url == url


def test_address_of_grpc_is_no_use_to_a_worker_over_websocket() -> None:
    result = CliRunner().invoke(worker_command, ["--grpc-server", "10.0.0.9:50051", "--transport", "websocket"])
    assert (result.exit_code, "--grpc-server goes with --transport=grpc" in result.stderr) == (2, True)
