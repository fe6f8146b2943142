"""The protocol under chance: real `Turn`, `Scheduler` and `Agent` in a world with its own clock, network and store.

``python -m tests.simulation --seed 17 --trace`` replays one run.
"""
