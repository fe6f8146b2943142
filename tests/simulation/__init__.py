"""The protocol under chance: real `Turn`, `Scheduler` and `Agent` in a world with its own clock, network and store.

``python -m rota.simulator.chaos --seed 17 --trace`` replays one run.
"""
