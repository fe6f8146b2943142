"""Limits of the cluster, by name: at most so many of these at once, whatever queue and worker they are on.

How many are in use is what live attempts hold. It changes where an attempt is assigned and where it leaves its lane,
and nowhere else, so a lost worker gives back what its attempts held, like everybody.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from rota.core.model import Amounts, Setting

if TYPE_CHECKING:
    from rota.core.cluster import Room

__all__ = ["LIMIT_KIND", "Limit", "Limits"]

LIMIT_KIND: Final = "limit"
"""Of the settings that a store keeps."""

_decode_size: Final = msgspec.json.Decoder(int).decode


class Limit:
    """``size`` is how much there is, ``used`` how much live attempts hold. ``rooms`` wait for some of it."""

    __slots__ = ("name", "rooms", "size", "used")

    def __init__(self, name: str, size: int) -> None:
        self.name = name
        self.size = size
        self.used = 0
        self.rooms: dict[Room, None] = {}

    def setting(self) -> Setting:
        """What a store keeps of it."""
        return Setting(LIMIT_KIND, self.name, str(self.size))


class Limits:
    """All limits by name. One that tasks hold and nobody has set, because it was removed, has the size 0."""

    def __init__(self) -> None:
        self._limits: dict[str, Limit] = {}

    def __bool__(self) -> bool:
        return bool(self._limits)

    def find(self, name: str) -> Limit | None:
        """The limit, if somebody has set it."""
        return self._limits.get(name)

    def all(self) -> list[Limit]:
        """All of them, in order of their names."""
        return [self._limits[name] for name in sorted(self._limits)]

    def set(self, name: str, size: int) -> Limit:
        """Make a limit, or change its size. Who holds more than there is now goes on."""
        limit = self._limits.get(name)
        if limit is None:
            limit = self._limits[name] = Limit(name, size)
        limit.size = size
        return limit

    def remove(self, name: str) -> None:
        """Forget a limit that nobody holds."""
        assert not self._limits[name].used
        del self._limits[name]

    def restore(self, setting: Setting) -> None:
        """Take in what the store has kept."""
        self.set(setting.name, _decode_size(setting.data))

    def find_full(self, wanted: Amounts) -> Limit | None:
        """The first limit of which there is not so much left; one that nobody has set has nothing."""
        for name, amount in wanted:
            limit = self._limits.get(name) or self.set(name, 0)
            if limit.used + amount > limit.size:
                return limit
        return None

    def take(self, wanted: Amounts) -> None:
        """Let an attempt hold so much. At a start it may be more than there is."""
        for name, amount in wanted:
            (self._limits.get(name) or self.set(name, 0)).used += amount

    def give_back(self, wanted: Amounts) -> list[Limit]:
        """An attempt holds it no more; return the limits, whose rooms may go on."""
        given = [self._limits[name] for name, _ in wanted]
        for limit, (_, amount) in zip(given, wanted, strict=True):
            limit.used -= amount
        return given
