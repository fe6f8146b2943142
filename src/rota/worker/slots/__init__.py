"""Slots: the small processes under which attempts run, and the agent's end of them.

The agent imports ``rota.worker.slots.pool``. Everything else on this level is imported by name,
and this file imports nothing: the keeper and its slots run it too, and each module that they
load is memory of every slot.

```
agent (asyncio)   pool: lines ── supplies ── sources ── source ─┬─ control ── keeper: warm template, forks slots
                                                                └─ link ── slot: runs one attempt at a time
```

The pool keeps the lines of lanes; supplies get what an attempt needs before it can run; a source is one keeper with the
slots that it made. There is a source for programs, one for functions, and one for each virtual environment.

What runs in the keeper and the slots (``frames``, ``keeper``, ``slot``, ``attempt``, ``output``, ``tree``)
imports only built-in and small C modules: no ``typing``, no ``enum``, no ``socket``.
"""
