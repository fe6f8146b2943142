from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Task(_message.Message):
    __slots__ = ("task_id", "priority", "data", "status", "progress")
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    task_id: str
    priority: str
    data: str
    status: str
    progress: int
    def __init__(self, task_id: _Optional[str] = ..., priority: _Optional[str] = ..., data: _Optional[str] = ..., status: _Optional[str] = ..., progress: _Optional[int] = ...) -> None: ...

class SubTask(_message.Message):
    __slots__ = ("subtask_id", "parent_task_id", "data")
    SUBTASK_ID_FIELD_NUMBER: _ClassVar[int]
    PARENT_TASK_ID_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    subtask_id: str
    parent_task_id: str
    data: str
    def __init__(self, subtask_id: _Optional[str] = ..., parent_task_id: _Optional[str] = ..., data: _Optional[str] = ...) -> None: ...

class SubmitTaskRequest(_message.Message):
    __slots__ = ("task",)
    TASK_FIELD_NUMBER: _ClassVar[int]
    task: Task
    def __init__(self, task: _Optional[_Union[Task, _Mapping[str, object]]] = ...) -> None: ...

class SubmitTaskResponse(_message.Message):
    __slots__ = ("success", "message")
    SUCCESS_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    success: bool
    message: str
    def __init__(self, success: _Optional[bool] = ..., message: _Optional[str] = ...) -> None: ...

class SubmitSubTaskRequest(_message.Message):
    __slots__ = ("subtask",)
    SUBTASK_FIELD_NUMBER: _ClassVar[int]
    subtask: SubTask
    def __init__(self, subtask: _Optional[_Union[SubTask, _Mapping[str, object]]] = ...) -> None: ...

class SubmitSubTaskResponse(_message.Message):
    __slots__ = ("success", "message")
    SUCCESS_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    success: bool
    message: str
    def __init__(self, success: _Optional[bool] = ..., message: _Optional[str] = ...) -> None: ...

class TaskStatusRequest(_message.Message):
    __slots__ = ("task_id",)
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    task_id: str
    def __init__(self, task_id: _Optional[str] = ...) -> None: ...

class TaskStatusResponse(_message.Message):
    __slots__ = ("found", "currentStatus", "message")
    FOUND_FIELD_NUMBER: _ClassVar[int]
    CURRENTSTATUS_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    found: bool
    currentStatus: str
    message: str
    def __init__(self, found: _Optional[bool] = ..., currentStatus: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class TaskListRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class TaskListResponse(_message.Message):
    __slots__ = ("tasks",)
    TASKS_FIELD_NUMBER: _ClassVar[int]
    tasks: _containers.RepeatedCompositeFieldContainer[Task]
    def __init__(self, tasks: _Optional[_Iterable[_Union[Task, _Mapping[str, object]]]] = ...) -> None: ...

class ResourceUsageRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ResourceUsageResponse(_message.Message):
    __slots__ = ("usages",)
    USAGES_FIELD_NUMBER: _ClassVar[int]
    usages: _containers.RepeatedCompositeFieldContainer[ResourceUsage]
    def __init__(self, usages: _Optional[_Iterable[_Union[ResourceUsage, _Mapping[str, object]]]] = ...) -> None: ...

class ResourceUsage(_message.Message):
    __slots__ = ("nodeName", "cpuPercent", "memPercent")
    NODENAME_FIELD_NUMBER: _ClassVar[int]
    CPUPERCENT_FIELD_NUMBER: _ClassVar[int]
    MEMPERCENT_FIELD_NUMBER: _ClassVar[int]
    nodeName: str
    cpuPercent: int
    memPercent: int
    def __init__(self, nodeName: _Optional[str] = ..., cpuPercent: _Optional[int] = ..., memPercent: _Optional[int] = ...) -> None: ...
