"""What holds for every test: a clean environment, patient properties, and the time each kind takes."""

from __future__ import annotations

import gc
import os
import sys
from collections import defaultdict
from pathlib import PurePosixPath
from typing import Final

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "rota",
    # A machine that runs other tests meanwhile is slow at times: that is no failure of the property.
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    print_blob=True,
)
settings.load_profile("rota")

FOREIGN_VARIABLES: Final = ("ROTA_", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
"""Beginnings of variables that would make tests speak to the cluster, or through the proxy, of whoever runs them."""

NO_BYTECODE: Final = "PYTHONDONTWRITEBYTECODE"
"""With it each of the thousand programs under test compiles all that it imports: a third of a coordinator's start."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add our flags."""
    parser.addoption("--rewrite-scenarios", action="store_true", help="Write anew what follows in scenario files.")


def pytest_configure(config: pytest.Config) -> None:
    """Free the environment of settings that are not the tests', and take the time."""
    for name in [name for name in os.environ if name.upper().startswith(FOREIGN_VARIABLES)]:
        del os.environ[name]
    os.environ.pop(NO_BYTECODE, None)
    sys.dont_write_bytecode = False
    if not hasattr(config, "workerinput"):  # reports of all processes come together in the first one
        config.pluginmanager.register(_TimePerKind(), "rota-time-per-kind")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep those that share a fixture of their module in one process: a cluster of several tests is started once."""
    for item in items:
        if isinstance(item, pytest.Function) and item.get_closest_marker("xdist_group") is None:
            fixtures = item._fixtureinfo.name2fixturedefs.values()
            if any(
                one.scope == "module" and item.nodeid.startswith(one.baseid) for (*_, one) in fixtures if one.baseid
            ):
                item.add_marker(pytest.mark.xdist_group(item.nodeid.partition("::")[0]))


def pytest_collection_finish() -> None:
    """Spare collections of garbage the thousands of tests, which stay to the end: a full one took 0.3 s."""
    gc.collect()
    gc.freeze()


class _TimePerKind:
    """Adds up the seconds that tests took, by the folder they are in."""

    def __init__(self) -> None:
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._tests: defaultdict[str, int] = defaultdict(int)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        kind = _kind_of(report.nodeid)
        self._seconds[kind] += report.duration
        self._tests[kind] += report.when == "setup"

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if not self._seconds:
            return
        terminalreporter.section("time per kind of test, summed over processes")
        total_s = sum(self._seconds.values())
        for kind, seconds in sorted(self._seconds.items(), key=lambda item: -item[1]):
            share = seconds / total_s if total_s else 0.0
            terminalreporter.write_line(f"{kind:<12} {seconds:8.2f} s {share:5.0%}   {self._tests[kind]} tests")


def _kind_of(node_id: str) -> str:
    """The folder under ``tests`` that a test is in; the examples in docstrings are a kind of their own."""
    parts = PurePosixPath(node_id.split("::", 1)[0]).parts
    if parts[:1] == ("src",):
        return "doctest"
    return parts[1] if len(parts) > 2 else "other"
