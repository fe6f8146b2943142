"""What keeps a session connected: opens channels, one after the other, and carries messages.

One coroutine, `Link.run`, on one loop: it connects, and connects again, for as long as it takes, with the
pauses of `rota.wire.backoff`. What can never succeed (a wrong token, another version) ends it, and every
ticket of the session with the reason. That the coordinator is away is told once an outage, and only if somebody waits.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from rota.client.session import Rejection, SdkSession
from rota.core.client_protocol import ClientWelcome, FromClient, ToClient
from rota.core.errors import Forbidden, NoCoordinator, RotaError, Unauthorized
from rota.core.protocol import Closing, Refused
from rota.wire.backoff import reconnect_delay_s
from rota.wire.channel import Channel, ChannelError, CloseCode
from rota.wire.messages import CLIENT_CODEC
from rota.wire.websocket.client import connect

__all__ = ["Address", "Link"]

CONNECT_S_MAX: Final = 10.0
"""For one channel to open."""

OUTAGE_TRIES: Final = 2
"""Tries in vain after which people should know."""

FAREWELL_S_MAX: Final = 5.0
"""For the last messages to leave, when the client is closed."""

log = logging.getLogger("rota")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Address:
    """Where the coordinator is, and what it wants to see."""

    url: str
    token: str | None = None
    ca_file: Path | None = None
    why_gone: Callable[[], str | None] = lambda: None
    """Why nobody will ever answer there again, if somebody knows."""


class Link:
    """The channel of a session, whichever it is just now. It belongs to the loop's thread.

    Args:
        session: What there is to say.
        address: To whom.
        on_welcome: Called with each welcome, before anything else of the channel is heard.
        on_turn: Called after anything has happened: more was heard, the channel is gone, all is over.
    """

    def __init__(
        self,
        session: SdkSession,
        address: Address,
        *,
        on_welcome: Callable[[ClientWelcome], None],
        on_turn: Callable[[], None],
    ) -> None:
        self.failure: RotaError | None = None
        """Why there can be no channel, ever."""
        self.trouble: RotaError | None = None
        """Why there was none at the last try."""
        self.was_welcome = False
        """Whether the coordinator has ever let us in."""
        self._session = session
        self._address = address
        self._on_welcome = on_welcome
        self._on_turn = on_turn
        self._channel: Channel[FromClient] | None = None
        self._closed = asyncio.Event()
        self._stopped = asyncio.Event()
        self._tries = 0
        self._is_outage_told = False

    @property
    def excuse(self) -> RotaError:
        """Why the coordinator has never let us in."""
        if self.failure is not None:
            return self.failure
        why = str(self.trouble or f"no answer from {self._address.url}")
        return NoCoordinator(f"{why}; start a coordinator with 'rota up', or set ROTA_URL")

    @property
    def is_stopped(self) -> bool:
        return self._stopped.is_set()

    @property
    def has_channel(self) -> bool:
        return self._channel is not None

    def pump(self) -> None:
        """Send what there is to be sent."""
        channel = self._channel
        if channel is None:
            return
        for message in self._session.outgoing():
            channel.send(message)

    def stop(self) -> None:
        """Say good-bye, and let `run` end."""
        self._stopped.set()

    async def run(self) -> None:
        """Keep the session connected until `stop`, or until that can never succeed."""
        rng = random.Random()
        try:
            while not self.is_stopped and await self._connect_once():
                if not self.is_stopped:
                    self._tries += 1
                    self._tell_outage()
                    await _unless(self._stopped, reconnect_delay_s(self._tries, rng))
        finally:
            self._stopped.set()
            self._session.give_up(_last_word(self.failure))
            self._on_turn()

    async def _connect_once(self) -> bool:
        """Open a channel and see it to its end; return whether to try again."""
        self._closed.clear()
        address = self._address
        opening = connect(
            address.url,
            self,
            codec=CLIENT_CODEC,
            token=address.token,
            timeout_s=CONNECT_S_MAX,
            ca_file=address.ca_file,
        )
        try:
            channel = await self._unless_stopped(opening)
        except ChannelError as error:
            if (why := address.why_gone()) is not None:
                self._note(NoCoordinator(why), is_final=True)
            else:
                self._note(_translated(error), is_final=not error.retryable)
            return self.failure is None
        if channel is None:
            return False
        await self._unless_stopped(self._closed.wait())
        channel.close(code=CloseCode.NORMAL, reason="the client is done")
        await _unless(self._closed, FAREWELL_S_MAX)
        return self.failure is None

    async def _unless_stopped(self, waiting: Coroutine[Any, Any, T]) -> T | None:
        """Wait for something; give it up at `stop`, and return ``None``."""
        task, stopped = asyncio.ensure_future(waiting), asyncio.ensure_future(self._stopped.wait())
        try:
            await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
            return task.result() if task.done() else None
        finally:
            task.cancel()
            stopped.cancel()
            await asyncio.wait({task, stopped})  # a loop that ends right after us must not find them

    # The channel's handler --------------------------------------------------------------------

    def opened(self, channel: Channel[FromClient]) -> None:
        """Say hello."""
        self._channel = channel
        channel.send(self._session.hello())

    def received(self, messages: list[ToClient]) -> None:
        """Hear what the coordinator says, and answer."""
        session = self._session
        for message in messages:
            match message:
                case Refused():
                    self._refused(message)
                case Closing():
                    self.trouble = NoCoordinator(message.message)
                case ClientWelcome():
                    self._welcomed(message)
                    session.received(message)
                case _:
                    session.received(message)
        self.pump()
        self._on_turn()

    def closed(self, reason: str) -> None:
        """Remember that the session has no channel."""
        self._channel = None
        self._session.disconnected()
        if self.trouble is None:
            self.trouble = NoCoordinator(f"the connection to {self._address.url} broke: {reason}")
        self._closed.set()
        self._on_turn()

    def _welcomed(self, welcome: ClientWelcome) -> None:
        if self._is_outage_told:
            log.warning("the coordinator at %s is back", self._address.url)
        self.was_welcome, self._is_outage_told = True, False
        self._tries, self.trouble = 0, None
        self._on_welcome(welcome)

    def _refused(self, refused: Refused) -> None:
        error = NoCoordinator(f"{self._address.url} refused this client: {refused.message}", code=refused.code)
        self._note(error, is_final=not refused.retryable)
        if self._channel is not None:
            self._channel.close(code=CloseCode.NORMAL, reason="refused")

    def _note(self, error: RotaError, *, is_final: bool) -> None:
        self.trouble = error
        if is_final:
            self.failure = error
        self._on_turn()

    def _tell_outage(self) -> None:
        """Say once that the coordinator is away, if somebody waits for it. A connection that broke is no outage yet."""
        if self._tries >= OUTAGE_TRIES and self.was_welcome and not self._is_outage_told and self._session.has_open:
            self._is_outage_told = True
            log.warning("%s; trying again", self.trouble)


async def _unless(event: asyncio.Event, seconds: float) -> None:
    """Wait so long, or until the event."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass


def _translated(error: ChannelError) -> RotaError:
    match error.status:
        case 401:
            return Unauthorized(f"{error}: set ROTA_TOKEN, or give the client a token")
        case 403:
            return Forbidden(str(error))
        case _:
            return NoCoordinator(str(error))


def _last_word(failure: RotaError | None) -> Rejection:
    if failure is not None:
        return Rejection(failure.code, str(failure))
    return Rejection("client_closed", "the client was shut down before it knew the end of this task, which goes on")
