"""The table of routes: what the coordinator answers over HTTP, and nothing else.

Routes and documentation are both made from this table, so they can't differ.
"""

from __future__ import annotations

from typing import Final

from rota.coordinator.http.advice_routes import PLACEMENT_ONLY
from rota.coordinator.http.blobs import BLOBS_PATH, BlobJson, get_blob, put_blob
from rota.coordinator.http.calendar_routes import CALENDARS
from rota.coordinator.http.docs import page_endpoints
from rota.coordinator.http.endpoint import Body, Documented, Endpoint
from rota.coordinator.http.events import EventJson, EventsQuery, listen_to_events
from rota.coordinator.http.explain import ExplainJson, explain_task
from rota.coordinator.http.nodes import NodeJson, drain_node, forget_node, get_node, list_nodes, resume_node
from rota.coordinator.http.outputs import get_output, list_outputs
from rota.coordinator.http.render import AttemptJson, OutputJson, TaskJson
from rota.coordinator.http.results import get_result
from rota.coordinator.http.share_routes import RESERVATIONS, SHARES
from rota.coordinator.http.submit_task import SUBMIT_ONE_TASK
from rota.coordinator.http.system import HealthJson, StatsJson, get_stats, is_alive, is_ready, read_metrics
from rota.coordinator.http.tasks import (
    TASKS_PATH,
    ListQuery,
    LogsQuery,
    WaitQuery,
    cancel_task,
    get_task,
    list_attempts,
    list_tasks,
    read_logs,
    retry_task,
    submit_tasks,
)
from rota.core.errors import Conflict, Gone, NotFound, Overloaded, TooLarge, Unavailable
from rota.core.spec import TaskRequest

__all__ = ["API", "ENDPOINTS", "GET_TASK", "SUBMIT_TASKS"]

SUBMIT_TASKS: Final = Endpoint(
    method="POST",
    path=TASKS_PATH,
    summary="Submit one task, or an array that is accepted whole or not at all",
    handler=submit_tasks,
    body=Body("One task, or an array of 1 to 10,000; at most 8 MiB.", TaskRequest | list[TaskRequest]),
    answers=(Documented(201, "On the record: the task, or the array in the same order.", TaskJson | list[TaskJson]),),
    errors=(Conflict, TooLarge, Overloaded, Unavailable),
)

GET_TASK: Final = Endpoint(
    method="GET",
    path=TASKS_PATH + "/{id}",
    summary="Show a task, at once or when it has ended",
    handler=get_task,
    query=WaitQuery,
    answers=(Documented(200, "The task as of now.", TaskJson),),
    errors=(NotFound,),
)

_TASKS: Final = (
    SUBMIT_TASKS,
    Endpoint(
        method="GET",
        path=TASKS_PATH,
        summary="List tasks, newest first",
        handler=list_tasks,
        query=ListQuery,
        answers=(Documented(200, 'One page; `Link: rel="next"` leads to the next.', list[TaskJson]),),
        errors=(Unavailable,),
    ),
    GET_TASK,
    Endpoint(
        method="DELETE",
        path=TASKS_PATH + "/{id}",
        summary="Cancel a task",
        handler=cancel_task,
        answers=(
            Documented(200, "It had ended before: unchanged.", TaskJson),
            Documented(202, "The wish is on the record: nothing of it starts any more.", TaskJson),
        ),
        errors=(NotFound, Unavailable),
    ),
    Endpoint(
        method="GET",
        path=TASKS_PATH + "/{id}/logs",
        summary="Read the output of a task",
        handler=read_logs,
        query=LogsQuery,
        answers=(Documented(200, "The bytes as they were written.", None, "text/plain"),),
        errors=(NotFound, Overloaded),
    ),
    Endpoint(
        method="GET",
        path=TASKS_PATH + "/{id}/explain",
        summary="Say why a task waits: what each worker lacks, what would help, when its turn may come",
        handler=explain_task,
        answers=(Documented(200, "The reasons as of now.", ExplainJson),),
        errors=(NotFound, Unavailable),
    ),
    Endpoint(
        method="GET",
        path=TASKS_PATH + "/{id}/attempts",
        summary="List the attempts of a task, oldest first",
        handler=list_attempts,
        answers=(Documented(200, "All attempts, the current one last.", list[AttemptJson]),),
        errors=(NotFound,),
    ),
    Endpoint(
        method="GET",
        path=TASKS_PATH + "/{id}/result",
        summary="Read what a function returned or raised, as its worker pickled it, at once or when it has ended",
        handler=get_result,
        query=WaitQuery,
        answers=(Documented(200, "An envelope; `X-Rota-State` says how it ended.", None, "application/octet-stream"),),
        errors=(NotFound, Conflict, Gone, Overloaded, Unavailable),
    ),
    Endpoint(
        method="GET",
        path=TASKS_PATH + "/{id}/outputs",
        summary="List the files that a task brought back, at once or when it has ended",
        handler=list_outputs,
        query=WaitQuery,
        answers=(Documented(200, "Those of its last attempt, by name.", list[OutputJson]),),
        errors=(NotFound, Conflict),
    ),
    Endpoint(
        method="GET",
        path=TASKS_PATH + "/{id}/outputs/{name:path}",
        summary="Read a file that a task brought back, at once or when it has ended",
        handler=get_output,
        query=WaitQuery,
        answers=(Documented(200, "Its bytes; its digest is the `ETag`.", None, "application/octet-stream"),),
        errors=(NotFound, Conflict, Gone, Overloaded, Unavailable),
    ),
    Endpoint(
        method="POST",
        path=TASKS_PATH + "/{id}/retry",
        summary="Bring back a task that failed or was cancelled, with fresh budgets",
        handler=retry_task,
        answers=(Documented(200, "The task, pending again.", TaskJson),),
        errors=(NotFound, Conflict, Unavailable),
    ),
    SUBMIT_ONE_TASK,
)

_BLOBS: Final = (
    Endpoint(
        method="GET",
        path=BLOBS_PATH + "/{digest}",
        summary="Read a blob; HEAD says whether it is there, and its size",
        handler=get_blob,
        answers=(Documented(200, "Its bytes, which never change.", None, "application/octet-stream"),),
        errors=(NotFound, Overloaded, Unavailable),
        group="blobs",
    ),
    Endpoint(
        method="PUT",
        path=BLOBS_PATH + "/{digest}",
        summary="Put a blob, before a task names it",
        handler=put_blob,
        body=Body("The bytes, at most 1 GiB.", None, "application/octet-stream"),
        answers=(
            Documented(201, "It is there now, for ten minutes at least.", BlobJson),
            Documented(200, "It was there before.", BlobJson),
        ),
        errors=(TooLarge, Unavailable),
        group="blobs",
    ),
)

_NODES: Final = (
    Endpoint(
        method="GET",
        path="/api/v1/nodes",
        summary="List the workers",
        handler=list_nodes,
        answers=(Documented(200, "All known workers, in order of their ids.", list[NodeJson]),),
        group="nodes",
    ),
    Endpoint(
        method="GET",
        path="/api/v1/nodes/{id}",
        summary="Show a worker",
        handler=get_node,
        answers=(Documented(200, "The worker.", NodeJson),),
        errors=(NotFound,),
        group="nodes",
    ),
    Endpoint(
        method="DELETE",
        path="/api/v1/nodes/{id}",
        summary="Strike off a worker that is gone for good; what it had runs elsewhere",
        handler=forget_node,
        answers=(Documented(200, "The worker as it was.", NodeJson),),
        errors=(NotFound, Conflict, Unavailable),
        group="nodes",
    ),
    Endpoint(
        method="POST",
        path="/api/v1/nodes/{id}/drain",
        summary="Give a worker nothing new; what it runs goes on",
        handler=drain_node,
        answers=(Documented(200, "The worker, draining.", NodeJson),),
        errors=(NotFound, Conflict, Unavailable),
        group="nodes",
    ),
    Endpoint(
        method="POST",
        path="/api/v1/nodes/{id}/resume",
        summary="Undo a drain",
        handler=resume_node,
        answers=(Documented(200, "The worker.", NodeJson),),
        errors=(NotFound, Conflict, Unavailable),
        group="nodes",
    ),
)

_CLUSTER: Final = (
    Endpoint(
        method="GET",
        path="/api/v1/events",
        summary="Listen to changes of state as server-sent events, resumable with Last-Event-ID",
        handler=listen_to_events,
        query=EventsQuery,
        answers=(Documented(200, "Events; the data of each is this.", EventJson, "text/event-stream"),),
        errors=(Overloaded,),
        group="cluster",
    ),
    Endpoint(
        method="GET",
        path="/api/v1/stats",
        summary="Count tasks, workers and resources",
        handler=get_stats,
        answers=(Documented(200, "The counts as of now.", StatsJson),),
        group="cluster",
    ),
    Endpoint(
        method="GET",
        path="/healthz",
        summary="Say that the process lives; needs no token",
        handler=is_alive,
        answers=(Documented(200, "It does.", HealthJson),),
        group="cluster",
    ),
    Endpoint(
        method="GET",
        path="/readyz",
        summary="Say whether tasks are accepted",
        handler=is_ready,
        answers=(Documented(200, "They are.", HealthJson),),
        errors=(Unavailable,),
        group="cluster",
    ),
    Endpoint(
        method="GET",
        path="/metrics",
        summary="Metrics for Prometheus",
        handler=read_metrics,
        answers=(Documented(200, "The page.", None, "text/plain"),),
        group="cluster",
    ),
)

API: Final[tuple[Endpoint, ...]] = (
    *_TASKS,
    *_BLOBS,
    *_NODES,
    *SHARES,
    *RESERVATIONS,
    *CALENDARS,
    *PLACEMENT_ONLY,
    *_CLUSTER,
)
"""What is documented: everything that programs use."""

ENDPOINTS: Final[tuple[Endpoint, ...]] = (*API, *page_endpoints(API))
