"""What tests of every kind share: waiting with a bound, free ports, real processes, Debian's programs."""

from tests.support.debian import require_program
from tests.support.network import free_port
from tests.support.processes import RunningProcess, running_rota
from tests.support.waiting import GaveUp, wait_until, wait_until_async

__all__ = [
    "GaveUp",
    "RunningProcess",
    "free_port",
    "require_program",
    "running_rota",
    "wait_until",
    "wait_until_async",
]
