import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class NodeState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    NODE_STATE_UNSPECIFIED: _ClassVar[NodeState]
    NODE_STATE_ONLINE: _ClassVar[NodeState]
    NODE_STATE_DRAINING: _ClassVar[NodeState]
    NODE_STATE_SUSPICIOUS: _ClassVar[NodeState]
    NODE_STATE_OFFLINE: _ClassVar[NodeState]
NODE_STATE_UNSPECIFIED: NodeState
NODE_STATE_ONLINE: NodeState
NODE_STATE_DRAINING: NodeState
NODE_STATE_SUSPICIOUS: NodeState
NODE_STATE_OFFLINE: NodeState

class Node(_message.Message):
    __slots__ = ("id", "state", "drained", "addr", "host", "pid", "version", "instance", "kinds", "tags", "resources", "used", "gpus", "python", "max_tasks", "tasks", "quarantined_slots", "registered_at", "last_seen", "usage")
    class ResourcesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    class UsedEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    DRAINED_FIELD_NUMBER: _ClassVar[int]
    ADDR_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    KINDS_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    RESOURCES_FIELD_NUMBER: _ClassVar[int]
    USED_FIELD_NUMBER: _ClassVar[int]
    GPUS_FIELD_NUMBER: _ClassVar[int]
    PYTHON_FIELD_NUMBER: _ClassVar[int]
    MAX_TASKS_FIELD_NUMBER: _ClassVar[int]
    TASKS_FIELD_NUMBER: _ClassVar[int]
    QUARANTINED_SLOTS_FIELD_NUMBER: _ClassVar[int]
    REGISTERED_AT_FIELD_NUMBER: _ClassVar[int]
    LAST_SEEN_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    id: str
    state: NodeState
    drained: bool
    addr: str
    host: str
    pid: int
    version: str
    instance: str
    kinds: _containers.RepeatedScalarFieldContainer[str]
    tags: _containers.RepeatedScalarFieldContainer[str]
    resources: _containers.ScalarMap[str, int]
    used: _containers.ScalarMap[str, int]
    gpus: _containers.RepeatedCompositeFieldContainer[Device]
    python: str
    max_tasks: int
    tasks: int
    quarantined_slots: int
    registered_at: _timestamp_pb2.Timestamp
    last_seen: float
    usage: MachineLoad
    def __init__(self, id: _Optional[str] = ..., state: _Optional[_Union[NodeState, str]] = ..., drained: _Optional[bool] = ..., addr: _Optional[str] = ..., host: _Optional[str] = ..., pid: _Optional[int] = ..., version: _Optional[str] = ..., instance: _Optional[str] = ..., kinds: _Optional[_Iterable[str]] = ..., tags: _Optional[_Iterable[str]] = ..., resources: _Optional[_Mapping[str, int]] = ..., used: _Optional[_Mapping[str, int]] = ..., gpus: _Optional[_Iterable[_Union[Device, _Mapping[str, object]]]] = ..., python: _Optional[str] = ..., max_tasks: _Optional[int] = ..., tasks: _Optional[int] = ..., quarantined_slots: _Optional[int] = ..., registered_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping[str, object]]] = ..., last_seen: _Optional[float] = ..., usage: _Optional[_Union[MachineLoad, _Mapping[str, object]]] = ...) -> None: ...

class Device(_message.Message):
    __slots__ = ("memory", "model")
    MEMORY_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    memory: int
    model: str
    def __init__(self, memory: _Optional[int] = ..., model: _Optional[str] = ...) -> None: ...

class MachineLoad(_message.Message):
    __slots__ = ("cpu_percent", "memory_used", "memory_total", "load_1m")
    CPU_PERCENT_FIELD_NUMBER: _ClassVar[int]
    MEMORY_USED_FIELD_NUMBER: _ClassVar[int]
    MEMORY_TOTAL_FIELD_NUMBER: _ClassVar[int]
    LOAD_1M_FIELD_NUMBER: _ClassVar[int]
    cpu_percent: float
    memory_used: int
    memory_total: int
    load_1m: float
    def __init__(self, cpu_percent: _Optional[float] = ..., memory_used: _Optional[int] = ..., memory_total: _Optional[int] = ..., load_1m: _Optional[float] = ...) -> None: ...
