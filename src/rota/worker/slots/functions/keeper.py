"""The keeper of slots of functions: the one of ``rota.worker.slots.keeper``, with Python as the user has it.

It runs in the interpreter of the worker, or in that of a virtual environment, with its site-packages. All that slots
and runners need is loaded here, once, and shared by all of them.
"""

from __future__ import annotations

import os
import sys

from rota.worker.slots import keeper
from rota.worker.slots.functions.slot import run_function_slot

__all__ = ["main"]


def main() -> None:
    """Be a keeper for the agent, or one of its slots; see `rota.worker.slots.keeper.main`."""
    _set_path()
    keeper.main(run_function_slot, name="rota-keeper-fn")


def _set_path() -> None:
    """Functions import from where the worker was started, and then what their Python has.

    Where we came from was appended, and is taken away again: to a virtual environment it would bring packages of the
    worker's, maybe for another version of Python.
    """
    appended = sys.path.pop()
    assert appended == sys.argv[1]
    sys.path.insert(0, os.getcwd())
