"""The service `scheduler.Scheduler`, in the words of TaskAndGo: what is wrong with a task is answered, not raised."""

from __future__ import annotations

from rota.coordinator.grpc.errors import CallContext
from rota.coordinator.service import Service
from rota.coordinator.taskandgo import list_newest, list_usage, status_of_task, submit_subtask, submit_task
from rota.core.errors import BadRequest, Conflict, TooLarge
from rota.v1 import scheduler_pb2

__all__ = ["SchedulerService"]


class SchedulerService:
    """Implements the contract ``proto/scheduler.proto``."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def SubmitTask(  # noqa: N802 - the name of the RPC
        self, request: scheduler_pb2.SubmitTaskRequest, _context: CallContext
    ) -> scheduler_pb2.SubmitTaskResponse:
        if not request.HasField("task"):
            return scheduler_pb2.SubmitTaskResponse(success=False, message="No task provided")
        task = request.task
        try:
            task_id = await submit_task(self._service, task_id=task.task_id, priority=task.priority, data=task.data)
        except (BadRequest, Conflict, TooLarge) as error:
            return scheduler_pb2.SubmitTaskResponse(success=False, message=str(error))
        return scheduler_pb2.SubmitTaskResponse(success=True, message=f"Task {task_id} submitted successfully")

    async def SubmitSubTask(  # noqa: N802 - the name of the RPC
        self, request: scheduler_pb2.SubmitSubTaskRequest, _context: CallContext
    ) -> scheduler_pb2.SubmitSubTaskResponse:
        if not request.HasField("subtask"):
            return scheduler_pb2.SubmitSubTaskResponse(success=False, message="No subtask provided")
        task, parent = request.subtask, request.subtask.parent_task_id
        try:
            task_id = await submit_subtask(self._service, subtask_id=task.subtask_id, parent_id=parent, data=task.data)
        except (BadRequest, Conflict, TooLarge) as error:
            return scheduler_pb2.SubmitSubTaskResponse(success=False, message=str(error))
        return scheduler_pb2.SubmitSubTaskResponse(
            success=True, message=f"Subtask {task_id} submitted for task {parent}"
        )

    async def GetTaskStatus(  # noqa: N802 - the name of the RPC
        self, request: scheduler_pb2.TaskStatusRequest, _context: CallContext
    ) -> scheduler_pb2.TaskStatusResponse:
        task_id = request.task_id
        word = await status_of_task(self._service, task_id)
        if word is None:
            return scheduler_pb2.TaskStatusResponse(found=False, message=f"Task {task_id} not found")
        return scheduler_pb2.TaskStatusResponse(
            found=True, currentStatus=word, message=f"Task {task_id} is in {word} state"
        )

    async def ListTasks(  # noqa: N802 - the name of the RPC
        self, _request: scheduler_pb2.TaskListRequest, _context: CallContext
    ) -> scheduler_pb2.TaskListResponse:
        listed = await list_newest(self._service)
        return scheduler_pb2.TaskListResponse(
            tasks=[
                scheduler_pb2.Task(
                    task_id=task.task_id,
                    priority=task.priority,
                    data=task.data,
                    status=task.status,
                    progress=task.progress,
                )
                for task in listed
            ]
        )

    async def GetResourceUsage(  # noqa: N802 - the name of the RPC
        self, _request: scheduler_pb2.ResourceUsageRequest, _context: CallContext
    ) -> scheduler_pb2.ResourceUsageResponse:
        loads = await list_usage(self._service)
        return scheduler_pb2.ResourceUsageResponse(
            usages=[
                scheduler_pb2.ResourceUsage(
                    nodeName=load.name, cpuPercent=load.cpu_percent, memPercent=load.memory_percent
                )
                for load in loads
            ]
        )
