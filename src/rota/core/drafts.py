"""From a checked request to what the core is asked to accept."""

from __future__ import annotations

from datetime import datetime

import msgspec

from rota.core.commands import Draft
from rota.core.model import TaskRecord
from rota.core.spec import (
    TaskRequest,
    blobs_of,
    deadline_time,
    encode_spec,
    start_time,
    terms_of,
)

__all__ = ["draft_of", "same_spec"]

_encode_labels = msgspec.json.Encoder(order="deterministic").encode


def draft_of(request: TaskRequest, *, accepted_at: float) -> Draft:
    """Turn a request into a draft. Durations stay durations, so that a jump of the clock does not change them.

    Raises:
        TooLarge: The encoded spec is over its limit.
    """
    deadline = request.deadline
    return Draft(
        chosen_id=request.id,
        terms=terms_of(request),
        spec=encode_spec(request),
        name=request.name,
        labels=_encode_labels(request.labels).decode() if request.labels else None,
        start_at=start_time(request, accepted_at=accepted_at),
        start_in_s=request.delay,
        deadline_at=deadline_time(request, accepted_at=accepted_at),
        deadline_in_s=None if deadline is None or isinstance(deadline, datetime) else deadline,
        blobs=blobs_of(request),
    )


def same_spec(request: TaskRequest, record: TaskRecord) -> bool:
    """Say whether a request asks for what a task is already."""
    return encode_spec(request) == record.facts.spec
