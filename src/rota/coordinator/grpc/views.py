"""What tasks, nodes and events look like in the messages of `rota.v1`."""

from __future__ import annotations

from typing import Final

from rota.coordinator.grpc.specs import timestamp, write_spec
from rota.coordinator.service import Event, NodeView, TaskView
from rota.core.model import Cause, OutputFile, TaskState, WorkerState
from rota.core.spec import decode_spec, kind_of
from rota.v1 import node_pb2, rota_pb2, task_pb2

__all__ = ["STATE_NAMES", "event_message", "node_message", "task_message"]

STATE_NAMES: Final = {state: f"TASK_STATE_{state.name}" for state in TaskState}
"""What the contract calls each state. Its numbers are not those that stores keep: there 0 is a state, here nothing."""

_NODE_STATE_NAMES: Final = {state: f"NODE_STATE_{state.name}" for state in WorkerState}


def task_message(view: TaskView, *, is_listed: bool = False) -> task_pb2.Task:
    """Render a task; in a list without what may be large."""
    facts, progress = view.record.facts, view.record.progress
    spec = decode_spec(facts.spec)
    kibibytes = progress.peak_memory_kib
    return task_pb2.Task(
        id=facts.id,
        state=STATE_NAMES[progress.state],
        reason=view.reason,
        reason_text=view.reason_text,
        behind=view.behind,
        progress=task_pb2.Mark(fraction=view.mark.fraction, text=view.mark.text) if view.mark is not None else None,
        cause=progress.cause,
        exit_code=progress.exit_code,
        signal=progress.signal,
        message=progress.message,
        worker=progress.worker,
        attempt=progress.attempt,
        retries_used=progress.retries_used,
        losses_used=progress.losses_used,
        cancel_requested=progress.wish is Cause.CANCELLED,
        created_at=timestamp(facts.created_at),
        started_at=timestamp(progress.started_at),
        ended_at=timestamp(progress.ended_at),
        cpu_seconds=progress.cpu_seconds,
        peak_memory=None if kibibytes is None else round(kibibytes / 1024, 1),
        stdout_bytes=progress.stdout_bytes,
        stderr_bytes=progress.stderr_bytes,
        kind=kind_of(spec),
        spec=write_spec(spec, facts, is_listed=is_listed),
        output_files=() if is_listed else map(_output_message, progress.outputs),
    )


def node_message(view: NodeView) -> node_pb2.Node:
    """Render a worker. Sets are sorted, so that two looks at it can be compared."""
    offer, usage = view.offer, view.usage
    load = None
    if usage is not None:
        load = node_pb2.MachineLoad(
            cpu_percent=usage.cpu_percent,
            memory_used=usage.memory_used_mib,
            memory_total=usage.memory_total_mib,
            load_1m=usage.load_1m,
        )
    return node_pb2.Node(
        id=view.id,
        state=_NODE_STATE_NAMES[view.state],
        drained=view.drained,
        addr=offer.addr,
        host=offer.host,
        pid=offer.pid,
        version=offer.version,
        instance=view.instance,
        kinds=sorted(offer.kinds),
        tags=sorted(offer.tags),
        resources=dict(offer.resources),
        used=view.used,
        gpus=[node_pb2.Device(memory=gpu.memory_mib, model=gpu.model) for gpu in offer.gpus],
        python=offer.python or None,
        max_tasks=offer.max_tasks,
        tasks=view.tasks,
        quarantined_slots=view.quarantined_slots,
        registered_at=timestamp(view.registered_at),
        last_seen=view.last_seen_s,
        usage=load,
    )


def _output_message(output: OutputFile) -> task_pb2.OutputFile:
    return task_pb2.OutputFile(name=output.name, bytes=output.bytes, digest=output.digest, executable=output.executable)


def event_message(event: Event) -> rota_pb2.Event:
    """Render an event."""
    return rota_pb2.Event(
        id=event.id,
        type=event.type,
        at=timestamp(event.at),
        task=event.task,
        node=event.node,
        attempt=event.attempt,
        cause=event.cause,
        fraction=event.fraction,
        text=event.text,
    )
