"""Slots of functions: warm Python processes in which users' functions run, one after another.

```
agent ── frames ── slot: keeps the line, watches ─┬─ window: shared memory, results and what runs ─ runner: calls
                                                  └─ one socket: chunks of orders, a bell
```

A keeper forks a slot for each lane, as for programs; the slot forks a **runner** from itself, and another after a
crash, a time-out, a stop, or many calls. The runner is all that a function can harm.

What runs in keeper, slot and runner (this folder, ``rota.functions`` and what they import) needs Python itself and
cloudpickle, nothing else: a virtual environment of a user's has no more of ours.
"""
