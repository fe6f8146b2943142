"""The page about the API in a real browser: it must work without the internet, from the files we bring."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.support.coordinators import live_coordinator
from tests.support.debian import require_program

OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
    *("--disable-background-networking", "--disable-sync", "--disable-component-update"),
)

RENDER_MS = 10_000
"""Of virtual time, which ends as soon as the page has nothing more to do."""

TIMEOUT_S = 90.0
"""The first start of a browser on a cold disk."""


@pytest.mark.slow
def test_the_docs_page_lists_all_endpoints(tmp_path: Path) -> None:
    chromium = require_program("chromium", package="chromium")
    with live_coordinator() as coordinator:
        dom = rendered(chromium, f"{coordinator.url}/docs", profile=tmp_path)
    listed = re.findall(r'class="opblock-summary-path" data-path="([^"]+)"', dom)
    assert listed.count("/api/v1/tasks") == 2
    assert listed.count("/api/v1/tasks/{id}") == 2
    assert {"/api/v1/nodes", "/api/v1/nodes/{id}/drain", "/api/v1/events", "/api/v1/stats", "/metrics"} <= {*listed}
    assert "Submit one task, or an array that is accepted whole or not at all" in dom
    assert "Authorize" in dom


def rendered(chromium: str, url: str, *, profile: Path) -> str:
    """Return the page's elements after its scripts have run."""
    return subprocess.run(
        [chromium, *OPTIONS, f"--user-data-dir={profile}", f"--virtual-time-budget={RENDER_MS}", "--dump-dom", url],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        timeout=TIMEOUT_S,
        check=True,
    ).stdout
