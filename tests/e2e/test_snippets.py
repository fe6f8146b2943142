"""Code on a command line: snippets from files and from standard input, as a user types them, and the examples."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from tests.support.commands import Rota, running_cluster
from tests.support.debian import require_program
from tests.support.house import ROOT

pytestmark = pytest.mark.xdist_group("go")

EXAMPLES = ROOT / "examples" / "snippets"


@pytest.fixture(scope="module")
def rota(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rota]:
    require_program("go", package="golang-go")
    folder = tmp_path_factory.mktemp("cluster")
    options = ("--workers", "1", "--resources", "cpu=4000,memory=2G")
    with running_cluster(folder, *options, env={"ROTA_CACHE_DIR": str(folder / "cache")}) as (rota, _):
        yield rota


def spigot(digits: int) -> str:
    """π by Gibbons' unbounded spigot (2006), another way than the examples go."""
    q, r, t, k, m, x = 1, 0, 1, 1, 3, 3
    found = ""
    while len(found) <= digits:
        if 4 * q + r - t < m * t:
            found += str(m)
            q, r, m = 10 * q, 10 * (r - m * t), (10 * (3 * q + r)) // t - 10 * m
        else:
            q, r, t, k, m, x = q * k, (2 * q + r) * x, t * x, k + 1, (q * (7 * k + 2) + r * x) // (t * x), x + 2
    return f"{found[0]}.{found[1:]}"


def test_the_examples_know_pi(rota: Rota) -> None:
    known = spigot(1000)
    assert known.startswith("3.14159265358979323846264338327950288419716939937510")
    assert known.endswith("2164201989")
    assert known[2:].index("999999") == 761
    for option, file in (("--python", "pi.py"), ("--go", "pi.go")):
        assert rota.ok("run", option, str(EXAMPLES / file)) == f"{known}\n"
        for digits in (0, 1, 767):  # in the middle of the nines
            said = rota.ok("run", option, str(EXAMPLES / file), "--", str(digits))
            assert said == (known[: digits + 2] if digits else "3") + "\n"


def test_code_comes_from_a_pipe(rota: Rota) -> None:
    assert rota.ok("run", "--python", "-", "--", "a", "-b", stdin="import sys\nprint(sys.argv[1:])") == "['a', '-b']\n"
    code = 'package main\nimport "os"\nfunc main() { println(len(os.Args)); os.Exit(5) }'
    result = rota.run("run", "--go", "-", "--", "a", stdin=code)
    assert (result.returncode, result.stdout, result.stderr) == (5, "", "2\n")


def test_what_does_not_compile_is_told(rota: Rota) -> None:
    result = rota.run("run", "--python", "-", stdin="print(1\n")
    assert (result.returncode, result.stdout) == (1, "")
    assert "SyntaxError: '(' was never closed" in result.stderr
    (task,) = json.loads(rota.ok("ps", "-n", "1", "--json"))
    shown = rota.ok("show", task["id"])
    assert re.search(r"^state: +failed \(exit 1: SyntaxError: '\(' was never closed \(line 1\)\)$", shown, re.M), shown
    result = rota.run("run", "--go", "-", stdin="package main\n\nfunc main() {\n\tx := 1\n\ty := 2\n}\n")
    assert result.returncode == 127
    said = r"rota: t\d+ failed: launch-error: main.go:4:2: .*x.*\nmain.go:5:2: .*y.*\n"
    assert re.fullmatch(said, result.stderr), result.stderr
