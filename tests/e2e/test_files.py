"""Files as a user ships and fetches them: where they land, what is overwritten, what each mistake is told."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.commands import Rota, running_cluster

pytestmark = pytest.mark.xdist_group("e2e-files")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rota]:
    options = ("--workers", "1", "--resources", "cpu=4000,memory=2G")
    with running_cluster(tmp_path_factory.mktemp("cluster"), *options) as (rota, _):
        yield rota


@pytest.fixture
def rota(cluster: Rota, tmp_path: Path) -> Rota:
    """The same cluster, seen from a folder of its own for each test."""
    return Rota(cluster.url, tmp_path, env={"PATH": cluster.env["PATH"]})


def files_of(rota: Rota) -> dict[str, str]:
    return {
        path.relative_to(rota.folder).as_posix(): path.read_text()
        for path in rota.folder.rglob("*")
        if path.is_file() and not path.is_symlink()
    }


def test_run_is_as_if_the_command_had_its_files_here(rota: Rota) -> None:
    (rota.folder / "in.csv").write_text("a\n")
    (rota.folder / "out.csv").write_text("of the last time")
    result = rota.run("run", "--file", "in.csv", "--output", "*.csv", "--shell", "cat in.csv in.csv > out.csv")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "rota: out.csv (4 B)\n")
    assert files_of(rota) == {"in.csv": "a\n", "out.csv": "a\na\n"}


def test_run_brings_what_a_failure_left_and_keeps_its_code(rota: Rota) -> None:
    result = rota.run("run", "--output", "log", "--output", "png", "--shell", "echo half > log; exit 3")
    assert result.returncode == 3
    assert "failed: exit 3: no file matched 'png'" in result.stderr
    assert files_of(rota) == {"log": "half\n"}


def test_run_says_where_its_outputs_are_if_they_can_t_be_written(rota: Rota) -> None:
    (rota.folder / "out" / "full").mkdir(parents=True)
    result = rota.run("run", "--output", "out", "--shell", "echo > out")
    assert result.returncode == 125
    assert "can't write out: Is a directory; what t" in result.stderr
    assert "can be had with 'rota fetch t" in result.stderr


def test_a_folder_goes_with_all_that_is_in_it_and_a_name_may_be_another(rota: Rota) -> None:
    for name, content in {"data/a": "1", "data/deep/b": "2", "x=y": "3", "script": "#!/bin/sh\nfind . -type f"}.items():
        path = rota.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    (rota.folder / "script").chmod(0o755)
    options = ("--file", "data/", "--file", "x=y", "--file", "data/a=conf/app.yaml", "--file", "script=bin/run")
    result = rota.run("run", *options, "--", "bin/run")
    expected = {"./data/a", "./data/deep/b", "./x=y", "./conf/app.yaml", "./bin/run"}
    assert set(result.stdout.split()) == expected, result


def test_fetch_writes_below_one_folder_and_overwrites_nothing(rota: Rota) -> None:
    shell = "mkdir -p out/deep; echo 1 > out/a; echo 2 > out/deep/b; chmod +x out/a"
    task_id = rota.ok("submit", "--output", "out", "--shell", shell).strip()
    assert rota.ok("fetch", task_id, "--wait", "--list") == "out/a  2 B\nout/deep/b  2 B\n"
    assert files_of(rota) == {}
    assert rota.ok("fetch", task_id) == "out/a  2 B\nout/deep/b  2 B\n"
    assert os.access(rota.folder / "out" / "a", os.X_OK)
    assert rota.ok("fetch", task_id), "the same content is in nobody's way"
    (rota.folder / "out" / "a").write_text("mine")
    (rota.folder / "out" / "deep" / "b").unlink()
    refused = rota.run("fetch", task_id)
    assert refused.returncode == 1
    assert refused.stderr == (
        "rota: out/a would be overwritten: nothing was written; --force overwrites, --to DIR writes elsewhere\n"
    )
    assert files_of(rota) == {"out/a": "mine"}
    assert rota.ok("fetch", task_id, "--to", "x/y", "--only", "out/deep/b") == "x/y/out/deep/b  2 B\n"
    assert rota.ok("fetch", task_id, "--force")
    assert files_of(rota) == {"out/a": "1\n", "out/deep/b": "2\n", "x/y/out/deep/b": "2\n"}
    told = json.loads(rota.ok("fetch", task_id, "--only", "*/a", "--json"))
    assert [(one["name"], one["path"], one["bytes"], one["executable"]) for one in told] == [
        ("out/a", "out/a", 2, True)
    ]


def test_fetch_says_why_there_is_nothing(rota: Rota) -> None:
    waiting = rota.ok("submit", "--output", "a", "--delay", "1h", "--", "true").strip()
    early = rota.run("fetch", waiting)
    assert (early.returncode, early.stderr) == (
        1,
        f"rota: {waiting} is pending: ask again when it has ended, or --wait for that\n",
    )
    rota.ok("cancel", waiting)
    nothing = rota.run("fetch", waiting)
    assert (nothing.returncode, nothing.stderr) == (
        1,
        f"rota: {waiting} has brought nothing back: it was cancelled, and then nothing is kept\n",
    )
    unasked = rota.ok("submit", "--wait", "--", "true").strip()
    assert rota.run("fetch", unasked).stderr == (
        f"rota: {unasked} has brought nothing back: it was submitted without --output\n"
    )
    without = rota.ok("submit", "--output", "a*", "--output", "b", "--shell", "echo > b; ln -s b a").strip()
    partly = rota.run("fetch", without, "--wait")
    assert (partly.returncode, partly.stdout) == (0, "b  1 B\n")
    assert "completed: not brought back: 'a', which is a link" in partly.stderr
    unknown = rota.run("fetch", without, "--only", "b", "--only", "c")
    assert (unknown.returncode, f"{without} has not brought back 'c'; what there is: b" in unknown.stderr) == (1, True)
    assert rota.run("fetch", "t999").returncode == 1


def test_show_says_what_went_and_what_was_kept(rota: Rota) -> None:
    (rota.folder / "in.csv").write_text("a\n")
    task_id = rota.ok("submit", "--file", "in.csv", "--output", "*.csv", "--shell", "cat in.csv > out.csv").strip()
    rota.ok("fetch", task_id, "--wait", "--list")
    shown = rota.ok("show", task_id)
    assert f"files:      in.csv\nto keep:    *.csv\nkept:       out.csv: 2 B, see 'rota fetch {task_id}'\n" in shown


@pytest.mark.parametrize(
    "options,says",
    [
        (
            ["--output", "../../etc/passwd"],
            "--output: '../../etc/passwd' has a part '..', which leads",
        ),
        (["--output", "/etc/passwd"], "--output: '/etc/passwd' is absolute"),
        (["--output", "a**"], "must be a whole part"),
        (["--file", "nowhere"], "can't read nowhere: No such file or directory"),
        (["--file", "/dev/null"], "/dev/null is no regular file"),
        (["--file", "in=../out"], "the name of a file, '../out', has a part '..'"),
        (["--file", "in=/etc/passwd"], "the name of a file, '/etc/passwd', is absolute"),
        (["--file", "in", "--file", "sub/in"], "in and sub/in would both be 'in'"),
        (["--file", "in="], "'in=' is not PATH or PATH=NAME"),
        (["--file", "in", "--cwd", "/tmp"], "--cwd does not go with --file"),
        (["--file", "in", "--file", "in=in/a"], "'in' can't be a file, and a folder with 'in/a' in it"),
    ],
)
def test_a_mistake_is_told_before_anything_runs(rota: Rota, options: list[str], says: str) -> None:
    (rota.folder / "in").write_text("")
    (rota.folder / "sub").mkdir()
    (rota.folder / "sub" / "in").write_text("")
    result = rota.run("submit", *options, "--", "true")
    assert result.returncode in (1, 2)
    assert says in result.stderr
    assert result.stdout == ""


def test_a_calendar_has_files_for_its_tasks(rota: Rota) -> None:
    (rota.folder / "in").write_text("of the calendar")
    options = ("--name", "filed", "--file", "in", "--output", "out", "--shell", "cp in out")
    rota.ok("cron", "add", "@yearly", *options)
    task_id = rota.ok("cron", "run", "filed").strip()
    rota.ok("fetch", task_id, "--wait")
    assert (rota.folder / "out").read_text() == "of the calendar"
    rota.ok("cron", "remove", "filed")


def test_many_tasks_share_files(rota: Rota) -> None:
    (rota.folder / "in").write_text("shared")
    tasks = "".join(json.dumps({"shell": f"cat in > out-{n}", "outputs": [f"out-{n}"]}) + "\n" for n in range(3))
    ids = rota.ok("submit", "--from", "-", "--file", "in", "--wait", stdin=tasks).split()
    for number, task_id in enumerate(ids):
        rota.ok("fetch", task_id)
        assert (rota.folder / f"out-{number}").read_text() == "shared"


def test_many_tasks_are_fetched_at_once(rota: Rota) -> None:
    tasks = "".join(json.dumps({"shell": f"echo {n} > out-{n}", "outputs": ["out-*"]}) + "\n" for n in range(3))
    ids = rota.ok("submit", "--from", "-", "--label", "job=flat", stdin=tasks).split()
    assert rota.ok("wait", "--label", "job=flat") == ""
    listed = rota.ok("fetch", "--label", "job=flat", "--list")
    assert listed == "".join(f"{task_id}  out-{n}  2 B\n" for n, task_id in enumerate(ids))
    rota.ok("fetch", *ids, "--to", "by-ids")
    rota.ok("fetch", "--label", "job=flat", "--to", "by-label")
    expected = {f"{folder}/out-{n}": f"{n}\n" for folder in ("by-ids", "by-label") for n in range(3)}
    assert files_of(rota) == expected


def test_files_of_one_name_are_parted_by_id_and_never_lost(rota: Rota) -> None:
    tasks = "".join(json.dumps({"shell": f"echo {n} > out", "outputs": ["out"]}) + "\n" for n in range(2))
    first, second = rota.ok("submit", "--from", "-", "--label", "job=same", stdin=tasks).split()
    refused = rota.run("fetch", "--label", "job=same", "--wait", "--force")
    assert (refused.returncode, files_of(rota)) == (1, {})
    assert f"{first} and {second} have both left 'out', and they differ: nothing was written; --by-id" in refused.stderr
    rota.ok("fetch", "--label", "job=same", "--by-id")
    assert files_of(rota) == {f"{first}/out": "0\n", f"{second}/out": "1\n"}


def test_what_has_not_ended_keeps_the_rest_from_nothing(rota: Rota) -> None:
    done = rota.ok("submit", "--label", "job=part", "--output", "out", "--wait", "--shell", "echo > out").strip()
    waiting = rota.ok("submit", "--label", "job=part", "--output", "out", "--delay", "1h", "--", "true").strip()
    empty = rota.ok("submit", "--label", "job=part", "--wait", "--", "true").strip()
    result = rota.run("fetch", "--label", "job=part")
    assert (result.returncode, result.stdout, files_of(rota)) == (1, "out  1 B\n", {"out": "\n"})
    assert f"{waiting} has not ended: ask again later, or --wait for that" in result.stderr
    assert f"{empty} has brought nothing back: it was submitted without --output" in result.stderr
    assert rota.ok("fetch", done, "--list")
    rota.ok("cancel", "--label", "job=part")


def test_a_pipeline_over_many_files(rota: Rota) -> None:
    (rota.folder / "in").mkdir()
    for name in ("a", "b;c"):
        (rota.folder / "in" / f"{name}.txt").write_text(f"2 {name}\n1 {name}\n")
    (rota.folder / "sort.sh").write_text("#!/bin/sh\nsort $1 > $2\n")
    (rota.folder / "sort.sh").chmod(0o755)
    options = ("--label", "job=sort", "--file", "{}", "--file", "sort.sh", "--output", "{/.}.sorted", "--wait")
    result = rota.run(
        "submit", "--each-line", "-", *options, "--", "./sort.sh", "{/}", "{/.}.sorted", stdin="in/a.txt\nin/b;c.txt\n"
    )
    assert (result.returncode, result.stderr) == (0, "rota: 2 completed\n")
    rota.ok("fetch", "--label", "job=sort", "--to", "out")
    assert (rota.folder / "out" / "a.sorted").read_text() == "1 a\n2 a\n"
    assert (rota.folder / "out" / "b;c.sorted").read_text() == "1 b;c\n2 b;c\n"
