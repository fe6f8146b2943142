"""`rota fetch` and `rota run` before a coordinator that lies: about names, about bytes, about what is there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from click.testing import CliRunner, Result

from rota.cli.main import cli
from tests.support.blob_server import digest_of
from tests.support.commands import Rota

RIGHT = b"right"


class Liar(ThreadingHTTPServer):
    """Says that one task has ended, and that it has left whatever a test wants."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.outputs: object = []
        self.content = RIGHT

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def says(self, *names: str, digest: str = digest_of(RIGHT)) -> None:
        self.outputs = [{"name": name, "bytes": 5, "digest": digest, "executable": False} for name in names]


class _Handler(BaseHTTPRequestHandler):
    server: Liar

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path.startswith("/api/v1/blobs/"):
            self._answer(self.server.content)
        elif path.endswith("/outputs"):
            self._answer(json.dumps(self.server.outputs).encode())
        elif path.endswith("/logs"):
            self._answer(b"")
        else:
            self._answer(b'{"id": "t1", "state": "completed"}')

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def liar() -> Iterator[Liar]:
    with Liar() as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def rota(liar: Liar, *arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments, env={"ROTA_URL": liar.url}, catch_exceptions=False)


def all_files(here: Path) -> dict[str, bytes]:
    root = here.parent
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "name", ["../x", "../../../../tmp/rota-x", "/tmp/rota-x", "a/../../x", "", ".", "a\nb", "a\\b"]
)
def test_a_name_that_leads_elsewhere_is_written_nowhere(liar: Liar, here: Path, name: str) -> None:
    liar.says(name)
    result = rota(liar, "fetch", "t1", "--force")
    assert result.exit_code == 1
    assert "it is not written anywhere" in result.stderr
    assert "\n" not in result.stderr.strip(), "control characters are shown as escapes"
    assert all_files(here) == {}
    assert not Path("/tmp/rota-x").exists()


@pytest.mark.parametrize("name", [".bashrc", "../x"])
def test_run_takes_no_file_that_was_not_asked_for(liar: Liar, here: Path, name: str) -> None:
    (here / ".bashrc").write_bytes(b"mine")
    liar.says("out.csv", name)
    result = Rota(liar.url, here).run("run", "--output", "*", "--", "true")
    assert result.returncode == 125
    assert f"brings {name!r}, which no --output asked for: nothing is written" in result.stderr
    assert all_files(here) == {"here/.bashrc": b"mine"}


def test_other_bytes_than_those_that_were_kept_are_not_written(liar: Liar, here: Path) -> None:
    (here / "a").write_bytes(b"mine")
    liar.says("a")
    liar.content = b"wrong"
    result = rota(liar, "fetch", "t1", "--force")
    assert result.exit_code == 1
    assert "'a' did not come as it was kept" in result.stderr
    assert all_files(here) == {"here/a": b"mine"}


@pytest.mark.parametrize("outputs", [{}, [1], [{"name": 1}], [{"name": "a", "bytes": "x", "digest": "y"}], "no"])
def test_an_answer_that_is_none_is_no_traceback(liar: Liar, here: Path, outputs: object) -> None:
    liar.outputs = outputs
    result = rota(liar, "fetch", "t1")
    assert (result.exit_code, "not as a Rota coordinator does" in result.stderr) == (125, True)


def test_a_digest_leads_to_no_other_address(liar: Liar, here: Path) -> None:
    liar.says("a", digest="../../tasks/t1")
    result = rota(liar, "fetch", "t1")
    assert (result.exit_code, all_files(here)) == (1, {})


def test_a_right_file_is_written(liar: Liar, here: Path) -> None:
    liar.says("out/a")
    assert rota(liar, "fetch", "t1").exit_code == 0
    assert all_files(here) == {"here/out/a": RIGHT}
