"""A cluster behind nginx with TLS, set up as the file in the documents says: workers, people, large bodies."""

from __future__ import annotations

import json
import re
import ssl
import subprocess
from pathlib import Path

import httpx
import pytest

from rota.client.http import HttpClient
from tests.support.debian import require_program
from tests.support.house import ROOT
from tests.support.network import free_port
from tests.support.processes import RunningProcess
from tests.support.real_cluster import Cluster
from tests.support.waiting import wait_until

NAME = "localhost"

PROGRAM = """
user {user};
daemon off; worker_processes 1; pid {folder}/pid; error_log stderr;
events {{ }}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    {site}
}}
"""


def certify(folder: Path) -> tuple[Path, Path]:
    certificate, key = folder / "rota.pem", folder / "rota.key"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-days", "2", "-keyout", str(key), "-out", str(certificate), "-subj", f"/CN={NAME}"),
            *("-addext", f"subjectAltName=DNS:{NAME}", "-addext", "basicConstraints=critical,CA:TRUE"),
        ],
        check=True,
        capture_output=True,
        timeout=30,
    )
    return certificate, key


def site(cluster: Cluster, port: int, *, certificate: Path, key: Path) -> str:
    """The documented file, for this test's ports and certificate."""
    text = (ROOT / "docs" / "deploy" / "nginx.conf").read_text(encoding="utf-8")
    for pattern, ours in (
        (r"listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
        (r"server_name \S+;", f"server_name {NAME};"),
        (r"/etc/ssl/certs/rota\.pem", str(certificate)),
        (r"/etc/ssl/private/rota\.key", str(key)),
        (r"http://127\.0\.0\.1:8080", cluster.url),
    ):
        text, count = re.subn(pattern, ours, text)
        assert count == 1, pattern
    return text


def status_of_a_page(url: str, origin: str, certificate: Path) -> int:
    """What a browser is answered that shows a page of ``origin`` which submits a task."""
    headers = {"Authorization": "Bearer s3cret", "Origin": origin}
    trust = ssl.create_default_context(cafile=certificate)
    return httpx.post(f"{url}/api/v1/tasks", json={"shell": ":"}, headers=headers, verify=trust).status_code


@pytest.mark.xdist_group("nginx")
def test_all_of_a_cluster_works_behind_nginx_as_documented(tmp_path: Path) -> None:
    nginx = require_program("nginx", package="nginx-light")
    require_program("openssl", package="openssl")
    certificate, key = certify(tmp_path)
    port = free_port()
    with Cluster(tmp_path, token="s3cret") as cluster:
        cluster.start_coordinator()
        config = tmp_path / "nginx.conf"
        text = site(cluster, port, certificate=certificate, key=key)
        config.write_text(PROGRAM.format(user="root", folder=tmp_path, site=text))
        with RunningProcess(
            [nginx, "-p", str(tmp_path), "-e", "stderr", "-c", str(config)], log_path=tmp_path / "nginx.log"
        ):
            url = f"https://{NAME}:{port}"
            worker = cluster.launch_worker(
                "w1", "--server", url, f"--ca-file={certificate}", f"--cache-dir={tmp_path}/cache"
            )
            worker.wait_for_line("registered")
            with HttpClient(url, token="s3cret", ca_file=str(certificate)) as client:
                large = [{"command": ["true"], "env": {"A": "x" * 3_000}} for _ in range(700)]
                accepted = client.submit_many(json.dumps(large).encode())
                assert len(accepted) == len(large), "more than a proxy takes by default"
                task = client.submit({"command": ["echo", "through"]})
                wait_until(lambda: client.task(task["id"])["state"] == "completed", what="the task to end")
                assert b"".join(client.logs(task["id"], {}, follow=True)) == b"through\n"
            assert [status_of_a_page(url, origin, certificate) for origin in (url, "https://evil.example")] == [
                201,
                403,
            ]
