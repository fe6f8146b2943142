"""What a real coordinator refuses of queues, calendars and reservations is told by the options that were typed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from click.testing import CliRunner

from rota.cli.main import cli
from tests.support.real_cluster import Cluster


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("cluster")) as running:
        running.start_coordinator()
        yield running


def refused(*arguments: str, url: str) -> str:
    result = CliRunner().invoke(cli, arguments, env={"ROTA_URL": url})
    assert result.exit_code in (1, 2), result.output
    return result.stderr.strip().splitlines()[-1].removeprefix("Error: ").removeprefix("rota: ")


OTHERS = {
    ("cron", "add", "@daily", "--gang", "a:2", "--", "true"): "No such option '--gang'",
    ("cron", "add", "@daily", "--retries", "-1", "--", "true"): "--retries: is -1: ",
    ("cron", "add", "@daily", "--name", "a b", "--", "true"): "--name is 'a b': use ",
    ("cron", "add", "@daily", "--deadline", "2030-01-01T00:00Z", "--", "true"): "--deadline: must be a duration",
    ("queues", "set", "q", "--weight", "0"): "--weight is 0: it must be 0.001 to ",
    ("queues", "set", "q", "--weight", "nan"): "--weight: Expected `float`, got `null`",
    ("queues", "set", "q", "--max-running", "-1"): "--max-running is -1: ",
    ("queues", "set", "q", "--max-resources", "cpu=9999999999999999"): "--max-resources: cpu is ",
    ("limits", "set", "x", "--", "-1"): "SIZE is -1: it must be ",
    ("reserve", "add", "a b", "--resources", "cpu=1", "--for", "1h"): "NAME is 'a b': use ",
    ("reserve", "add", "a", "--resources", "cpu=1", "--for", "0"): "--for is 0: it must be ",
    ("reserve", "add", "a", "--resources", "cpu=1", "--for", "1h", "--workers", "0"): "--workers is 0: ",
    ("reserve", "add", "a", "--resources", "cpu=1", "--for", "1h", "--tag", "!"): "--tag: ",
}


@pytest.mark.parametrize("arguments,says", OTHERS.items(), ids=map(" ".join, OTHERS))
def test_other_commands_name_their_options_too(cluster: Cluster, arguments: tuple[str, ...], says: str) -> None:
    assert refused(*arguments, url=cluster.url).startswith(says)
