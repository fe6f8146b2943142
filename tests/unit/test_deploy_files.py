"""The files for operators speak of what there is: options, metrics, labels."""

from __future__ import annotations

import configparser
import re
import shlex
from collections.abc import Iterator

import click
import msgspec
import pytest

from rota.cli.coordinator import command as coordinator
from rota.cli.worker import command as worker
from tests.support.house import ROOT

DEPLOY = ROOT / "docs" / "deploy"

METRICS = (ROOT / "docs" / "reference" / "metrics.md").read_text(encoding="utf-8")

KNOWN = {
    name: set(labels.split(",")) if labels else set()
    for name, labels in re.findall(r"^\| `(rota_\w+)(?:\{([\w,]+)\})?` \|", METRICS, re.M)
}


def unit(name: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, delimiters=("=",), comment_prefixes=("#",))
    parser.optionxform = str  # type: ignore[assignment,method-assign] # as its documentation says: names keep their case
    parser.read(DEPLOY / f"rota-{name}.service")
    return parser


@pytest.mark.parametrize("name, command", [("coordinator", coordinator), ("worker", worker)])
def test_a_unit_starts_what_there_is_with_options_that_there_are(name: str, command: click.Command) -> None:
    program, word, *arguments = shlex.split(unit(name)["Service"]["ExecStart"])
    assert (program, word) == ("/opt/rota/bin/rota", name)
    command.make_context(name, arguments)  # raises for an option that is none


def test_a_worker_of_systemd_lets_its_tasks_end() -> None:
    service = unit("worker")["Service"]
    assert service["KillMode"] == "mixed", "the default sends SIGTERM to every task"
    assert service["OOMPolicy"] == "continue", "the default stops the worker when the kernel kills one task"


def rules() -> Iterator[tuple[str, str]]:
    for group in msgspec.yaml.decode((DEPLOY / "alerts.yml").read_bytes())["groups"]:
        for rule in group["rules"]:
            assert rule["annotations"]["summary"].endswith(".")
            yield rule["alert"], rule["expr"]


@pytest.mark.parametrize("alert, expr", list(rules()))
def test_an_alert_asks_for_metrics_that_there_are(alert: str, expr: str) -> None:
    asked = re.findall(r"\b((?:rota|process|up)(?:_\w+)?)\b(?:\{([^}]*)\})?", expr)
    assert asked, alert
    for name, matchers in asked:
        base = re.sub(r"_(sum|count|bucket)$", "", name)
        if base.startswith("rota_"):
            assert base in KNOWN, f"{alert}: {base}"
            assert set(re.findall(r"(\w+)=", matchers)) <= KNOWN[base], f"{alert}: {matchers}"
