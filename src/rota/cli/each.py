"""One task for each line of a text, such as a list of files: what a loop in the shell would submit one by one.

The line takes the place of ``{}`` wherever the options and the command have it, and parts of it that of the other
marks; they are those of GNU parallel, which many people know. In a line of shell it is quoted, so that
a file called ``a;b`` is a file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path, PurePath
from shlex import quote
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import click

from rota.cli.batches import PlacedSpec
from rota.cli.files import ship_files
from rota.core.errors import BadRequest, RotaError

if TYPE_CHECKING:
    from rota.client.http import HttpClient

__all__ = ["check_marks", "specs_of_lines"]

Spec = dict[str, Any]

_MARK: Final = re.compile(r"\{(/?\.?|#)\}")

UNMARKED: Final = frozenset({"code", "data"})
"""Fields that are programs, in which braces mean something else."""

LINE_BYTES_MAX: Final = 64 << 10
"""Longer than any name of a file; what is longer is no list."""


def check_marks(spec: Spec) -> None:
    """Refuse what would be the same for each line.

    Raises:
        click.UsageError: Nothing in it has a mark, or only the id hasn't; or one stands in quotes.
    """
    if not _has_mark({name: value for name, value in spec.items() if name not in UNMARKED}):
        raise click.UsageError("--each-line: say where the line goes, with {}, as in: -- ./convert.sh {}")
    if "id" in spec and not _has_mark(spec["id"]):
        raise click.UsageError("--each-line: an id is of one task: say --id with {}, {/}, {/.} or {#} in it")
    shell = spec.get("shell", "")
    for mark in _MARK.finditer(shell):
        if _is_quoted(shell, mark.start()):
            raise click.UsageError(
                f"--each-line: in --shell {mark[0]} is quoted as it is put in, and quotes around it would undo that: "
                "leave them out"
            )


def specs_of_lines(client: HttpClient, file: BinaryIO, spec: Spec) -> Iterator[PlacedSpec]:
    """Yield a task for each line that is not blank; the files of each are at the coordinator then.

    Raises:
        RotaError: A line is not text, or a file of it can't be sent; names the line.
    """
    paths: Mapping[str, str] = spec.get("files") or {}
    of_all = {"files": {name: path for name, path in paths.items() if not _has_mark([name, path])}}
    ship_files(client, of_all)  # once, however many lines there are
    for number, raw in enumerate(file, start=1):
        place = f"line {number}"
        line = _text_of(raw, place)
        if not line.strip():
            continue
        made = _filled({name: value for name, value in spec.items() if name not in {"files", *UNMARKED}}, line, number)
        made |= {name: spec[name] for name in UNMARKED & spec.keys()}
        try:
            own = {"files": _files_of(paths, of_all["files"], line=line, number=number)}
            ship_files(client, own)
        except RotaError as error:
            raise RotaError(f"{place}: {error}", code=error.code) from error
        if paths:
            made["files"] = {**of_all["files"], **own["files"]}
        yield PlacedSpec(place, made)


def _text_of(raw: bytes, place: str) -> str:
    if len(raw) > LINE_BYTES_MAX:
        raise BadRequest(f"{place} has {len(raw):,} bytes: at most {LINE_BYTES_MAX:,} are taken")
    try:
        return raw.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        raise BadRequest(f"{place} is not UTF-8") from None


def _filled(spec: Spec, line: str, number: int) -> Spec:
    fill = partial(_fill, line=line, number=number)
    made: Spec = _mapped(spec, fill)
    if "shell" in spec:
        made["shell"] = _MARK.sub(lambda mark: quote(fill(mark[0])), spec["shell"])
    return made


def _files_of(paths: Mapping[str, str], of_all: Mapping[str, str], *, line: str, number: int) -> dict[str, str]:
    """The files of one line alone. A name that was not given is the last part of the path as it is now.

    Raises:
        BadRequest: Two would have one name.
    """
    found: dict[str, str] = {}
    for name, path in paths.items():
        if name in of_all:
            continue
        is_given = name != Path(path).absolute().name
        real = _fill(path, line=line, number=number)
        real_name = _fill(name, line=line, number=number) if is_given else Path(real).absolute().name
        if real_name in found or real_name in of_all:
            raise BadRequest(f"two files would both be {real_name!r}: give one another name, as in --file {{}}=NAME")
        found[real_name] = real
    return found


def _fill(text: str, *, line: str, number: int) -> str:
    """Put a line in its places.

    >>> _fill("{} {/} {.} {/.} {#}", line="in/a.csv", number=3)
    'in/a.csv a.csv in/a a 3'
    """
    path = PurePath(line)
    parts = {"": line, "/": path.name, ".": str(path.with_suffix("")) if path.name else line, "/.": path.stem}
    return _MARK.sub(lambda mark: str(number) if mark[1] == "#" else parts[mark[1]], text)


def _mapped(value: Any, fill: Callable[[str], str]) -> Any:  # JSON of any shape
    if isinstance(value, str):
        return fill(value)
    if isinstance(value, dict):
        return {fill(name): _mapped(part, fill) for name, part in value.items()}
    return [_mapped(part, fill) for part in value] if isinstance(value, list) else value


def _is_quoted(shell: str, at: int) -> bool:
    r"""Whether a place in a line of shell is within quotes, or after a backslash.

    >>> [_is_quoted(text, text.index("{")) for text in ("cat {}", "cat '{}'", 'cat "a{}"', "it\\'s {}", "a \\{}")]
    [False, True, True, False, True]
    """
    quote_mark, is_escaped = "", False
    for char in shell[:at]:
        if is_escaped:
            is_escaped = False
        elif char == "\\" and quote_mark != "'":
            is_escaped = True
        elif not quote_mark and char in "'\"":
            quote_mark = char
        elif char == quote_mark:
            quote_mark = ""
    return is_escaped or bool(quote_mark)


def _has_mark(value: Any) -> bool:  # JSON of any shape
    if isinstance(value, str):
        return _MARK.search(value) is not None
    if isinstance(value, dict):
        return any(_has_mark([name, part]) for name, part in value.items())
    return isinstance(value, list) and any(map(_has_mark, value))
