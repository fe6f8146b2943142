"""Reading what users submit: JSON to checked requests.

Reading is strict: an unknown field or a wrong type is a `BadSpec` that names the field, and the index in an array,
and says what to do. What each field may be is in `rota.core.checks`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Final

import msgspec
from msgspec import Struct

from rota.core.checks import check_request
from rota.core.errors import BadRequest, BadSpec, TooLarge
from rota.core.model import GangTerms, InputFile, SyntheticWork
from rota.core.spec import TaskRequest

__all__ = ["check_template", "parse_requests"]

_UNKNOWN_FIELD = re.compile(r"Object contains unknown field `(.*?)`(?: - at `\$(?:\[(\d+)\])?\.?(.*)`)?\Z")
_AT_PATH = re.compile(r"(.*) - at `\$(?:\[(\d+)\])?\.?(.*)`\Z")

_NESTED: Final[Mapping[str | None, type[Struct]]] = {"workload": SyntheticWork, "gang": GangTerms, "files": InputFile}
"""Fields with fields of their own."""

_one_decoder = msgspec.json.Decoder(TaskRequest)
_template_decoder = msgspec.msgpack.Decoder(TaskRequest)
_many_decoder = msgspec.json.Decoder(list[TaskRequest])


def parse_requests(body: bytes, *, tasks_max: int) -> tuple[list[TaskRequest], bool]:
    """Read one task or an array of tasks from JSON, and check every field.

    Args:
        body: UTF-8 JSON: an object, or an array of 1 to ``tasks_max`` objects.
        tasks_max: How many tasks one request may hold.

    Returns:
        The requests, normalised (priority a number, implied kind left out), and whether an array came.

    Raises:
        BadRequest: The body is not JSON, or neither an object nor an array.
        BadSpec: A field is wrong; names it, and the index in an array.
        TooLarge: Too many tasks, or a spec over `SPEC_BYTES_MAX`.
    """
    is_array = body.lstrip(b" \t\r\n")[:1] == b"["
    try:
        requests = _many_decoder.decode(body) if is_array else [_one_decoder.decode(body)]
    except msgspec.ValidationError as error:
        raise _explain(str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(f"the body is not valid JSON in UTF-8: {error}") from error
    if not requests:
        raise BadRequest("the array is empty: send at least one task")
    if len(requests) > tasks_max:
        raise TooLarge(f"{len(requests)} tasks in one request: at most {tasks_max} are taken; send several requests")
    for index, request in enumerate(requests):
        check_request(request, index=index if is_array else None)
    return requests, is_array


def check_template(encoded: bytes) -> TaskRequest:
    """Read and check a spec that the SDK sent, as `parse_requests` does one that came as JSON.

    Raises:
        BadSpec: It is no spec, or one of its fields is wrong.
    """
    try:
        spec = _template_decoder.decode(encoded)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _explain(str(error)) from error
    check_request(spec)
    return spec


def _explain(problem: str) -> BadSpec:
    """Turn the decoder's sentence into one that names our field and the near name."""
    if unknown := _UNKNOWN_FIELD.match(problem):
        name, index, inside = unknown.groups()
        inside = inside and inside.removesuffix("[...]")
        field = f"{inside}.{name}" if inside else name
        near = get_close_matches(name, _NESTED.get(inside, TaskRequest).__struct_fields__, n=1)
        hint = f"did you mean `{near[0]}`?" if near else "see the list of fields at /docs"
        return BadSpec(field, f"there is no such field; {hint}", index=int(index) if index else None)
    if at := _AT_PATH.match(problem):
        what, index, field = at[1], at[2], at[3].replace("[...]", "")
        if field == "command" and "got `str`" in what:
            what = "must be an array of strings; use `shell` for a command line"
        elif field == "resources" and what.startswith("Expected `int`"):
            what = "amounts are whole numbers, cpu in thousandths of a core (500 is half of one) and memory in MiB"
        return BadSpec(field or "task", what, index=int(index) if index else None)
    return BadSpec("task", problem)
