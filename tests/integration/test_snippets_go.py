"""Snippets of Go on a real worker with Debian's toolchain, and on one without."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from rota.client.http import Json
from rota.worker.toolchain import USUAL_PATH
from tests.support.debian import require_program
from tests.support.real_cluster import Cluster
from tests.support.waiting import wait_until

pytestmark = pytest.mark.xdist_group("go")
"""One toolchain, and one place for what it has compiled of the standard library: that takes a while."""

BUILD_S = 120.0
"""For a build on a busy machine that starts with an empty cache."""


@pytest.fixture(scope="module")
def go() -> str:
    return require_program("go", package="golang-go")


@pytest.fixture(scope="module")
def cluster(go: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("go")
    with Cluster(folder) as running:
        running.start_coordinator()
        running.start_worker("w1", "--resources=cpu=4000,memory=2G", f"--cache-dir={folder}/cache")
        yield running
        assert "Traceback" not in running.coordinator.output()


def submit(cluster: Cluster, code: str, **spec: object) -> str:
    return str(cluster.client.submit({"kind": "go", "code": code, **spec})["id"])


def run(cluster: Cluster, code: str, **spec: object) -> Json:
    return cluster.wait_for_end(submit(cluster, code, **spec), timeout_s=BUILD_S)


def output(cluster: Cluster, task: Json) -> str:
    return b"".join(cluster.client.logs(task["id"], {})).decode()


def program(body: str, *imports: str) -> str:
    lines = "\n".join(f'import "{name}"' for name in imports)
    return f"package main\n{lines}\nfunc main() {{\n{body}\n}}\n"


def built(cluster: Cluster) -> int:
    """How many programs were built by the workers so far."""
    return sum(path.read_text().count("go_built") for path in cluster.folder.glob("w*.log"))


def test_a_snippet_is_built_and_runs_as_a_program(cluster: Cluster) -> None:
    body = """
        here, _ := os.Getwd()
        input, _ := io.ReadAll(os.Stdin)
        fmt.Println(len(os.Args), os.Args[1:], string(input), here == os.Getenv("ROTA_SCRATCH"))
        fmt.Println(os.WriteFile("file", []byte("x"), 0o600))
        os.Exit(3)"""
    code = program(body, "fmt", "io", "os")
    task = run(cluster, code, command=["one", "two words"], stdin="to be read", timeout=60.0, resources={"memory": 50})
    assert (task["kind"], task["cause"], task["exit_code"], task["message"]) == ("go", "exit", 3, None)
    assert output(cluster, task) == "3 [one two words] to be read true\n<nil>\n"
    assert [path.name for path in (cluster.folder / "cache" / "scratch-1").iterdir()] == ["lock"]


def test_a_snippet_has_files_and_leaves_some(cluster: Cluster, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("to be read")
    body = """
        content, _ := os.ReadFile("data/in.txt")
        os.WriteFile("out", append(content, '!'), 0o600)"""
    files = cluster.client.files.ship({"data/in.txt": tmp_path / "in.txt"})
    task = run(cluster, program(body, "os"), files=files, outputs=["**"])
    assert (task["state"], [output["name"] for output in task["output_files"]]) == ("completed", ["out"]), task
    cluster.client.files.fetch(cluster.client.files.outputs(task["id"]), tmp_path)
    assert (tmp_path / "out").read_text() == "to be read!"


def test_equal_code_is_built_once_however_many_want_it_at_once(cluster: Cluster) -> None:
    before = built(cluster)
    code = program('fmt.Println("once")', "fmt")
    ids = [submit(cluster, code, resources={"cpu": 1000 + n % 3}, command=[str(n)]) for n in range(20)]
    ids.append(str(cluster.client.submit({"data": f"go:{code}"})["id"]))
    for task_id in ids:
        assert cluster.wait_for_end(task_id, timeout_s=BUILD_S)["state"] == "completed"
    assert built(cluster) == before + 1


def test_a_worker_that_comes_back_finds_what_was_built(cluster: Cluster, tmp_path: Path) -> None:
    code = program('fmt.Println("kept")', "fmt")
    with Cluster(tmp_path) as other:
        other.start_coordinator()
        compiled = cluster.folder / "cache" / "go-build"  # of the standard library, by the tests before, if any
        compiled.mkdir(parents=True, exist_ok=True)
        (tmp_path / "cache").mkdir()
        (tmp_path / "cache" / "go-build").symlink_to(compiled)
        for _ in range(2):
            worker = other.start_worker("w1", f"--cache-dir={tmp_path}/cache")
            assert run(other, code)["state"] == "completed"
            worker.stop()
        assert built(other) == 1


@pytest.mark.parametrize(
    "code, message",
    [
        (program("var x int = y", "fmt"), "main.go:4:13: undefined: y"),
        ("package main\nfunc main() {\n\tx = = 1\n", "main.go:3:6: syntax error: unexpected ="),
        (
            'import "fmt"\nfunc main() { fmt.Println(1) }',
            "a Go snippet is a whole program: it begins with `package main`",
        ),
        ("package other\nfunc main() {}", "a Go snippet is a whole program"),
        ("package main\nfunc notmain() {}", "a Go snippet is a whole program"),
        (program("y.Z()", "github.com/x/y"), "a Go snippet can import the standard library only"),
        (program("C.f()", "C"), "a Go snippet is built without C"),
        ("\u202e\U0001f600 \x01", "main.go:1:1: "),
    ],
)
def test_code_that_does_not_compile_fails_with_what_the_compiler_says(
    cluster: Cluster, code: str, message: str
) -> None:
    task = run(cluster, code)
    assert (task["state"], task["cause"]) == ("failed", "launch-error")
    assert message in task["message"]
    assert str(cluster.folder) not in task["message"]


def test_a_mebibyte_of_code_is_built(cluster: Cluster) -> None:
    code = program('os.Stdout.WriteString("done")', "os") + "// fillér\n" * 95_000
    assert 1_000_000 < len(code.encode()) < 1 << 20
    assert output(cluster, run(cluster, code)) == "done"


def test_a_panic_is_the_message(cluster: Cluster) -> None:
    task = run(cluster, program("var x []int\nfmt.Println(x[5])", "fmt"))
    assert (task["cause"], task["exit_code"]) == ("exit", 2)
    assert task["message"] == "panic: runtime error: index out of range [5] with length 0 (line 5)"


def test_a_build_stops_when_nobody_wants_it_any_more(cluster: Cluster) -> None:
    lines = "\n".join(f"func f{n}(x int) int {{ return x*{n} + f{n - 1}(x+{n}) }}" for n in range(1, 9000))
    code = f"package main\nfunc f0(x int) int {{ return x }}\n{lines}\nfunc main() {{ println(f8999(1)) }}\n"
    work = cluster.folder / "cache" / "go-1" / "work"
    task_id = submit(cluster, code)
    wait_until(lambda: list(work.glob("*/main.go")), what="the build", timeout_s=60.0)
    cluster.client.cancel(task_id)
    assert cluster.wait_for_end(task_id)["state"] == "cancelled"
    wait_until(lambda: not list(work.iterdir()), what="the end of the build", timeout_s=60.0)
    assert run(cluster, program("println(1)"))["state"] == "completed", "and others go on"


def test_a_worker_offers_go_and_its_version(cluster: Cluster) -> None:
    node = cluster.node("w1")
    assert node is not None
    assert "go" in node["kinds"]
    assert "go" in node["tags"]
    task = cluster.client.submit({"command": ["true"], "tags": ["go>=1.15"]})
    assert cluster.wait_for_end(task["id"])["state"] == "completed"


@pytest.mark.usefixtures("go")
@pytest.mark.skipif(Path(USUAL_PATH).exists(), reason="every worker here finds a toolchain in its usual place")
def test_without_a_toolchain_a_task_says_what_it_waits_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bare = tmp_path / "bin"
    bare.mkdir()
    with Cluster(tmp_path) as cluster:
        cluster.start_coordinator()
        with monkeypatch.context() as patched:
            patched.setenv("PATH", str(bare))
            cluster.start_worker("w1")
        node = cluster.node("w1")
        assert node is not None
        assert "go" not in [*node["kinds"], *node["tags"]]
        task_id = submit(cluster, program("println(1)"))
        task = cluster.client.task(task_id)
        why = "waits for a worker with a Go toolchain: none of 1 worker has one"
        assert (task["state"], task["reason"], task["reason_text"]) == ("pending", "tags", why)
        cluster.start_worker("w2", f"--cache-dir={tmp_path}/cache")
        assert cluster.wait_for_end(task_id, timeout_s=BUILD_S)["worker"] == "w2"
