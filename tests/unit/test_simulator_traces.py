"""Traces of real work: CSV and the Standard Workload Format."""

from __future__ import annotations

import pytest

from rota.core.errors import BadRequest
from rota.simulator.plan import LoadPlan
from rota.simulator.traces import read_trace

SWF = """\
; Computer: a machine of the eighties
; MaxProcs: 128
1   100 5  60  4 -1 -1  4  600 -1 1 3 1 -1 2 -1 -1 -1
2   130 0  10 12 -1 2048 12 -1 -1 1 4 1 -1 -1 -1 -1 -1
3   140 0  -1 1 -1 -1 1 -1 -1 5 4 1 -1 -1 -1 -1 -1
""".splitlines()


def test_csv_says_what_comes_when_and_for_how_long() -> None:
    lines = [
        "at,seconds,name,cpu,memory,tags,queue,priority,mix,mib",
        "20,3.5,fit,2000,512,ssd zone-a,batch,high,memory,256",
        "10,1,,,,,,,,",
    ]
    first, second = read_trace(lines, LoadPlan(queue="q", starts_at=5.0), is_swf=False, cores_max=4)
    assert (first.at, first.work.seconds, first.work.mix, first.template.queue) == (5.0, 1.0, "cpu", "q")
    assert (second.at, second.work.seconds, second.work.mib) == (15.0, 3.5, 256)
    template = second.template
    assert (template.name, template.resources, template.tags) == (
        "fit",
        {"cpu": 2000, "memory": 512},
        ["ssd", "zone-a"],
    )
    assert (template.queue, template.priority) == ("batch", 90)


def test_times_of_a_trace_can_be_stretched_and_it_can_be_cut() -> None:
    lines = ["at,seconds", "0,1", "10,1", "20,1"]
    arrivals = read_trace(lines, LoadPlan(time_scale=0.5, tasks=2), is_swf=False, cores_max=4)
    assert [arrival.at for arrival in arrivals] == [0.0, 5.0]


def test_like_tasks_of_a_trace_share_a_template() -> None:
    lines = ["at,seconds,name", *(f"{at},{at},same" for at in range(10))]
    arrivals = read_trace(lines, LoadPlan(), is_swf=False, cores_max=4)
    assert len({id(arrival.template) for arrival in arrivals}) == 1


def test_gang_is_whole_also_where_a_trace_is_cut() -> None:
    arrivals = read_trace(SWF, LoadPlan(tasks=2), is_swf=True, cores_max=4)
    assert [arrival.template.gang and arrival.template.gang.size for arrival in arrivals] == [None, 3, 3, 3]


def test_swf_job_is_a_task_or_a_gang_where_it_is_larger_than_a_worker() -> None:
    load = LoadPlan(priority="high", retries=2, limits={"licence": 1})
    arrivals = read_trace(SWF, load, is_swf=True, cores_max=8)
    assert [arrival.at for arrival in arrivals] == [0.0, 30.0, 30.0]
    one, *gang = arrivals
    assert (one.template.resources["cpu"], one.work.seconds, one.template.timeout) == (4000, 60.0, 600.0)
    assert (one.template.queue, one.template.name) == ("default-2", "user-3")
    assert (one.template.priority, one.template.retries, one.template.limits) == (90, 2, {"licence": 1})
    for member in gang:
        assert member.template.gang is not None
        assert (member.template.gang.size, member.template.resources) == (2, {"cpu": 6000, "memory": 12})


@pytest.mark.parametrize(
    "lines,says",
    [
        (["at,second"], "line 1 of the trace: there is no column 'second'; did you mean 'seconds'"),
        (["at"], "line 1 of the trace: the column 'seconds' is missing"),
        (["at,seconds"], "no tasks in it"),
        ([], "the column 'at' is missing"),
        (["at,seconds", "1"], "line 2 of the trace has 1 fields, not the 2"),
        (["at,seconds", "", "1,x"], "line 3 of the trace: seconds is 'x', not a number"),
        (["at,seconds", "-1,1"], "line 2 of the trace: at is -1: it must be 0 to 1,000,000,000,000"),
        (["at,seconds", "1,inf"], "line 2 of the trace: seconds is inf"),
        (["at,seconds", "1,"], "line 2 of the trace: seconds is empty"),
        (["at,seconds,priority", "1,1,urgent"], r"line 2 of the trace\.priority: 'urgent' is not one of low"),
        (["at,seconds,at", "1,1,1"], "line 1 of the trace: the column 'at' is there twice"),
        (["at;seconds", "1;1"], "columns are parted by commas, not by semicolons"),
        (["x" * 200_000], "line 1 of the trace is no CSV"),
        (["at,seconds,cpu", "1,1,1e300"], "line 2 of the trace: cpu is 1e300: it must be 0 to 1,000,000,000,000"),
        (["at,seconds,tags", "1,1,b@d"], r"line 2 of the trace\.tags: 'b@d'"),
        (["at,seconds,queue", "1,1,a b"], r"line 2 of the trace\.queue: must be 1 to 100 letters"),
        (["at,seconds,timeout", "1,1,0"], r"line 2 of the trace\.timeout: is 0 seconds"),
        (["at,seconds,priority", "1,1,1000"], r"line 2 of the trace\.priority: is 1000"),
        (["at,seconds,mix", "1,1,gpu"], "mix 'gpu' is not one of cpu"),
    ],
)
def test_mistake_in_a_csv_trace_is_named_by_its_line(lines: list[str], says: str) -> None:
    with pytest.raises(BadRequest, match=says):
        read_trace(lines, LoadPlan(), is_swf=False, cores_max=4)


@pytest.mark.parametrize(
    "lines,says",
    [
        (["1 2 3"], "line 1 of the trace has 3 fields"),
        (["; nothing"], "no tasks in it"),
        ([" ".join(["nan"] * 18)], "line 1 of the trace has a field that is not -1 to 1,000,000,000,000"),
        ([" ".join(["x"] * 18)], "line 1 of the trace has a field that is no number"),
    ],
)
def test_mistake_in_an_swf_trace_is_named_by_its_line(lines: list[str], says: str) -> None:
    with pytest.raises(BadRequest, match=says):
        read_trace(lines, LoadPlan(), is_swf=True, cores_max=4)
