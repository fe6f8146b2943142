"""The simulated network: what it promises of every message, whatever else goes wrong."""

from __future__ import annotations

import random
from functools import partial

from rota.core.model import TaskSeq
from rota.core.protocol import FromCoordinator, FromWorker, Recall
from rota.simulator.network import SimulatedLink
from rota.simulator.world import World


class Ends:
    """Both ends of a link: what the worker's has heard, in order."""

    def __init__(self) -> None:
        self.heard: list[FromCoordinator | FromWorker] = []

    def received(self, link: SimulatedLink, message: FromCoordinator | FromWorker) -> None:
        self.heard.append(message)

    def lost(self, link: SimulatedLink) -> None:
        raise AssertionError("nobody cuts it")


def test_messages_that_arrive_together_arrive_in_the_order_in_which_they_were_sent() -> None:
    world, ends, rng = World(1), Ends(), random.Random(1)
    link = SimulatedLink(world, ends, ends)
    link.set_lag((0.0, 0.0), (0.3, 0.7))  # so late that most of them wait for one before them
    sent = [Recall([(TaskSeq(number), 1)]) for number in range(2000)]
    due = 0.0
    for message in sent:
        due += rng.uniform(0.0, 0.01)
        world.at(due, partial(link.send_down, message))
    world.run(until=due + 10.0)
    assert ends.heard == sent
