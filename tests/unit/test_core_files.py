"""What a task may say of its files and outputs, what is said of one that may not, and how long blobs are in use."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from rota.core.drafts import draft_of
from rota.core.effects import Save
from rota.core.errors import BadSpec
from rota.core.filenames import find_flaw_in_name
from rota.core.files import FILES_MAX, OUTPUT_PATTERNS_MAX
from rota.core.model import OUTPUT_FILES_MAX, InputFile, OutputFile, TaskSeq
from rota.core.protocol import Ended
from rota.core.reports import REPORT_BYTES_MAX, cut_reports
from rota.core.requests import parse_requests
from rota.core.spec import TaskRequest, blobs_of, decode_spec, encode_spec
from tests.support.core import Core

ONE, TWO, THREE = "ab" * 32, "cd" * 32, "ef" * 32


def parse(**fields: Any) -> TaskRequest:
    [request], _ = parse_requests(json.dumps({"command": ["true"], **fields}).encode(), tasks_max=1)
    return request


@pytest.mark.parametrize(
    "name,says",
    [
        ("../../etc/passwd", "leads out of the folder"),
        ("a/../b", "leads out of the folder"),
        ("..", "leads out of the folder"),
        ("/etc/passwd", "is absolute"),
        ("//etc", "is absolute"),
        ("", "is empty"),
        ("a//b", "has an empty part"),
        ("./a", "has an empty part"),
        ("a/", "has an empty part"),
        ("a/.", "has an empty part"),
        ("a\\b", "has a backslash"),
        ("..\\..\\boot.ini", "has a backslash"),
        ("a\0b", "control character"),
        ("a\nb", "control character"),
        ("a\x85b", "control character"),
        ("a\u2028b", "control character"),
        ("a" * 256, "has a part of 256 bytes"),
        ("Ω" * 128, "has a part of 256 bytes"),
        ("a/" * 512 + "ab", "has 1,026 bytes"),
        ("\ud800", "is not Unicode"),
    ],
)
def test_a_name_that_could_lead_astray_is_refused_with_the_reason(name: str, says: str) -> None:
    assert says in (find_flaw_in_name(name) or "")
    if "a part of" not in says and name != "\ud800":  # bytes are not counted, and MessagePack can't say it either
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert((name, ONE, 1), OutputFile)
    if name != "\ud800":  # JSON can't say it
        for fields in ({"files": {name: ONE}}, {"outputs": [name]}):
            with pytest.raises(BadSpec, match=f"{next(iter(fields))}: .*{says}"):
                parse(**fields)


@pytest.mark.parametrize(
    "name", ["a", ".hidden", "...", "a b/c", "Ω/é/日本.csv", "-rf", "a.b..c", "*", "a/" * 511 + "a"]
)
def test_an_odd_name_that_stays_below_the_folder_is_taken(name: str) -> None:
    assert find_flaw_in_name(name) is None
    assert msgspec.convert((name, ONE, 1), OutputFile).name == name
    assert parse(files={name: ONE}).files == {name: ONE}


@pytest.mark.parametrize(
    "fields,field,says",
    [
        ({"files": {"a": "abc"}}, "files", "SHA-256"),
        ({"files": {"a": ONE.upper()}}, "files", "SHA-256"),
        ({"files": {"a": 3}}, "files", "Expected"),
        ({"files": {"a": {"digest": ONE, "mode": 7}}}, "files.mode", "no such field"),
        ({"files": {"a": {"digest": ONE, "executeable": True}}}, "files.executeable", "did you mean `executable`"),
        ({"files": {str(number): ONE for number in range(FILES_MAX + 1)}}, "files", "pack them into one archive"),
        ({"files": {"a": ONE, "a/b": TWO}}, "files", "'a' can't be a file, and a folder with 'a/b' in it"),
        ({"files": {"a": ONE}, "cwd": "/tmp"}, "cwd", "scratch directory"),
        ({"outputs": ["a"], "cwd": "/tmp"}, "cwd", "scratch directory"),
        ({"outputs": ["a", "a"]}, "outputs", "'a' is there twice"),
        ({"outputs": ["a**"]}, "outputs", "must be a whole part"),
        ({"outputs": [str(number) for number in range(OUTPUT_PATTERNS_MAX + 1)]}, "outputs", "at most 64"),
        ({"outputs": ["../a"] * (OUTPUT_PATTERNS_MAX + 1)}, "outputs", "has 65 patterns: at most 64"),
        ({"files": {f"../{number}": ONE for number in range(FILES_MAX + 1)}}, "files", "has 65 files: at most 64"),
        ({"outputs": ["a" * 1_000_000]}, "outputs", "a" * 100 + "…' has 1,000,000 bytes: at most 1,024"),
        ({"outputs": "a"}, "outputs", "Expected `array`"),
        ({"command": None, "function": ONE, "files": {"a": ONE}}, "files", "process, python, go and not with function"),
        ({"image": "alpine", "outputs": ["a"]}, "outputs", "not with container"),
        ({"command": None, "workload": {"mix": "cpu", "seconds": 1}, "outputs": ["a"]}, "outputs", "not with workload"),
    ],
)
def test_what_can_t_be_is_refused_with_what_to_do(fields: dict[str, Any], field: str, says: str) -> None:
    with pytest.raises(BadSpec) as caught:
        parse(**fields)
    assert caught.value.field == field
    assert says in caught.value.problem


def test_a_file_that_is_no_program_is_the_same_task_however_it_is_written() -> None:
    short, long = parse(files={"a": ONE}), parse(files={"a": {"digest": ONE, "executable": False}})
    assert encode_spec(short) == encode_spec(long)
    program = parse(files={"a": {"digest": ONE, "executable": True}})
    assert decode_spec(encode_spec(program)).files == {"a": InputFile(ONE, executable=True)}


def test_each_blob_is_named_once() -> None:
    assert blobs_of(parse(files={"a": ONE, "b": TWO, "c": {"digest": ONE, "executable": True}})) == (ONE, TWO)


def submit(core: Core, **fields: Any) -> tuple[TaskSeq, set[str]]:
    effects = core.submit_drafts([draft_of(parse(**fields), accepted_at=core.wall)])
    saved = {digest for effect in effects if isinstance(effect, Save) for digest in effect.changes.blobs}
    return core.accepted(effects)[0].facts.seq, saved


def test_files_are_on_the_disk_with_their_task_and_in_use_until_it_has_ended() -> None:
    core = Core()
    core.hello()
    seq, saved = submit(core, files={"a": ONE, "b": TWO})
    assert saved == core.state.blobs_in_use() == core.restarted().state.blobs_in_use() == {ONE, TWO}
    core.end(seq, "exit")
    assert core.state.blobs_in_use() == set()
    core.retry(seq)
    assert core.state.blobs_in_use() == {ONE, TWO}


def test_outputs_are_on_the_disk_before_the_end_is_and_stand_with_the_last_attempt_alone() -> None:
    core = Core()
    core.hello()
    seq, _ = submit(core, outputs=["*"])
    outputs = (OutputFile("a.csv", ONE, 3), OutputFile("b.csv", ONE, 3), OutputFile("run", TWO, 5, executable=True))
    effects = core.end(seq, "exit", outputs=outputs)
    assert {digest for effect in effects if isinstance(effect, Save) for digest in effect.changes.blobs} == {ONE, TWO}
    assert core.progress(seq).outputs == outputs
    core.retry(seq)
    assert core.progress(seq).outputs == ()


def test_the_outputs_of_an_attempt_fit_into_one_report() -> None:
    name = "a/" * 511 + "ab"
    most = tuple(OutputFile(name, f"{number:064x}", 2**40) for number in range(OUTPUT_FILES_MAX))
    end = Ended(TaskSeq(1), 1, None, outputs=most)
    [(_, size)] = cut_reports([], [end], [])
    assert len(msgspec.msgpack.encode(end)) <= size <= REPORT_BYTES_MAX
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(msgspec.to_builtins(msgspec.structs.replace(end, outputs=(*most, most[0]))), Ended)
