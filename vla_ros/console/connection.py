"""Shared parts of all page connections: event-loop thread, hello, rate limit."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from aiohttp import WSMsgType, web

from vla_ros.console.access import Access
from vla_ros.console.errors import ConsoleError, RequestError
from vla_ros.console.outbox import Outbox
from vla_ros.console.protocol import LARGEST_REQUEST, parse_hello, parse_object

LOGGER = logging.getLogger("vla_ros.console")

HELLO_TIMEOUT = 5.0
"""Timeout from a connection to its hello, s."""

SEND_TIMEOUT = 10.0
"""A page that accepts no data for this time is disconnected, s."""

PING_PERIOD = 10.0
"""Ping period, s. A page that does not answer within half of it is lost, e.g. a phone that has left the network."""

MAX_UNAUTHENTICATED = 64
"""Maximum number of connections that have not yet sent a hello."""

BURST, RATE = 60, 30.0
"""Message rate limit per page: burst (messages) and sustained rate (1/s). A page that exceeds it is disconnected."""

WRONG_TOKEN, TOO_MANY, BAD_REQUEST = 4401, 4429, 4400
"""WebSocket close codes that the page distinguishes."""

BACKLOG = 256
CLOSE_TIMEOUT = 3.0

Result = TypeVar("Result")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class LoopThread:
    """Runs an event loop in its own thread."""

    def __init__(self, name: str) -> None:
        """Start the thread."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def run(self, work: Coroutine[Any, Any, Result], timeout: float) -> Result:
        """Run a coroutine in the loop and return its result; call from another thread."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout)

    def call(self, work: Callable[[], object]) -> None:
        """Schedule a function in the loop; call from any thread."""
        with contextlib.suppress(RuntimeError):  # the loop has just ended
            self._loop.call_soon_threadsafe(work)

    def close(self) -> None:
        """Stop the loop and join the thread."""
        self.call(self._loop.stop)
        self._thread.join(CLOSE_TIMEOUT)
        if not self._thread.is_alive():
            self._loop.close()


class Listener:
    """Web application on one port, in its own event loop. Binds on construction."""

    def __init__(self, name: str, host: str, port: int, tls: ssl.SSLContext | None = None) -> None:
        """Bind the port; requests are answered from `serve` on.

        Raises:
            ConsoleError: when the address is in use, or is not an address of this machine.
        """
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            self._socket = socket.create_server((host, port), family=family, backlog=BACKLOG)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ConsoleError(f"the console cannot listen on {host}:{port}: {reason}; choose another port") from error
        self.port = int(self._socket.getsockname()[1])
        self._tls, self._name = tls, name
        self.thread: LoopThread | None = None
        self._runner: web.AppRunner | None = None
        self._background: list[asyncio.Task[None]] = []

    def serve(self, application: web.Application, *background: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Start serving, and run the `background` coroutines in the same loop."""
        self.thread = LoopThread(self._name)
        self.thread.run(self._serve(application, background), CLOSE_TIMEOUT)

    async def _serve(
        self, application: web.Application, background: tuple[Callable[[], Coroutine[Any, Any, None]], ...]
    ) -> None:
        self._runner = web.AppRunner(
            application, handle_signals=False, access_log=None, keepalive_timeout=10.0, shutdown_timeout=0.5
        )
        await self._runner.setup()
        await web.SockSite(self._runner, self._socket, ssl_context=self._tls, backlog=BACKLOG).start()
        self._background = [asyncio.create_task(work()) for work in background]

    def close(self) -> None:
        """End every connection and free the port; safe to call twice."""
        thread, self.thread = self.thread, None
        if thread is not None:
            with contextlib.suppress(Exception):  # whatever fails while a connection closes, the loop ends below
                thread.run(self._finish(), CLOSE_TIMEOUT)
            thread.close()
        self._socket.close()

    async def _finish(self) -> None:
        for task in self._background:
            task.cancel()
        if self._runner is not None:
            await self._runner.cleanup()


class Door:
    """Admits connections by headers, token and a maximum number."""

    def __init__(self, access: Access, most: int, *, same_port: bool = True) -> None:
        """Admit at most `most` connections at a time; see `Access.refusal` for `same_port`."""
        self._access, self._most, self._same_port = access, most, same_port
        self.inside = self._unauthenticated = 0

    def refusal(self, request: web.Request) -> str:
        """Return why a request is refused; "" if it is admitted."""
        return self._access.refusal(request.host, request.headers.get("Origin"), same_port=self._same_port)

    async def accept(self, request: web.Request) -> tuple[web.WebSocketResponse, dict[str, Any] | None]:
        """Accept the connection and read its hello; None instead of the hello means it was closed again.

        Call `leave` for each admitted connection when it ends.
        """
        if why := self.refusal(request):
            raise web.HTTPForbidden(text=why)
        if self._unauthenticated >= MAX_UNAUTHENTICATED:
            raise web.HTTPServiceUnavailable(text="too many connections that have not said hello")
        connection = web.WebSocketResponse(heartbeat=PING_PERIOD, max_msg_size=LARGEST_REQUEST, compress=False)
        self._unauthenticated += 1
        try:
            await connection.prepare(request)
            hello = await self._hello(connection)
        finally:
            self._unauthenticated -= 1
        if hello is not None:
            self.inside += 1
        return connection, hello

    async def _hello(self, connection: web.WebSocketResponse) -> dict[str, Any] | None:
        try:
            message = await asyncio.wait_for(connection.receive(), HELLO_TIMEOUT)
            if message.type is not WSMsgType.TEXT:
                raise RequestError("the first message must be a hello")
            token, name = parse_hello(message.data)
            hello = {**parse_object(message.data), "name": name}
        except asyncio.TimeoutError:
            await self.close(connection, BAD_REQUEST, f"no hello within {HELLO_TIMEOUT:.0f} s")
            return None
        except RequestError as error:
            await self.close(connection, BAD_REQUEST, str(error))
            return None
        if not self._access.admits(token):
            await self.close(connection, WRONG_TOKEN, "wrong token")
            return None
        if self.inside >= self._most:
            await self.close(connection, TOO_MANY, f"{self._most} are connected already, the most that may be")
            return None
        return hello

    def leave(self) -> None:
        """Register that an admitted connection has ended."""
        self.inside -= 1

    @staticmethod
    async def close(connection: web.WebSocketResponse, code: int, why: str) -> None:
        """Close a connection with a reason of at most 120 bytes."""
        with contextlib.suppress(ConnectionError, asyncio.TimeoutError):
            await connection.close(code=code, message=why.encode()[:120])


class Pace:
    """Rate limit of one page: `BURST` messages at a time, `rate` per second sustained."""

    def __init__(self, rate: float = RATE, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with the full burst available; `clock` is monotonic, s."""
        self._rate, self._clock = rate, clock
        self._left, self._last = float(BURST), clock()

    def admits(self) -> bool:
        """Count a message; return False if it exceeds the limit."""
        now = self._clock()
        self._left = min(float(BURST), self._left + self._rate * (now - self._last)) - 1.0
        self._last = now
        return self._left >= 0.0


async def texts(connection: web.WebSocketResponse, take: Callable[[str], None], rate: float = RATE) -> None:
    """Pass each received text to `take` until the connection ends or violates the protocol or the rate limit.

    A `RequestError` raised by `take` closes the connection, too.
    """
    pace = Pace(rate)
    async for message in connection:
        if message.type is not WSMsgType.TEXT:
            await Door.close(connection, BAD_REQUEST, "expected text")
            return
        try:
            take(message.data)
        except RequestError as error:
            await Door.close(connection, BAD_REQUEST, str(error))
            return
        if not pace.admits():
            await Door.close(connection, TOO_MANY, f"more than {rate:.0f} messages a second")
            return


async def send_all(
    request: web.Request,
    connection: web.WebSocketResponse,
    outbox: Outbox[str] | Outbox[bytes],
    turn: Callable[[], Awaitable[object]] | None = None,
) -> None:
    """Send the items of an outbox as fast as the page accepts them; disconnect a page that stalls.

    Args:
        request: Request of the connection.
        connection: Destination.
        outbox: Items to send.
        turn: Awaited before each item is taken from the outbox.
    """
    try:
        while not connection.closed:
            if turn is not None:
                await turn()
            content = await outbox.get()
            send = connection.send_str(content) if isinstance(content, str) else connection.send_bytes(content)
            await asyncio.wait_for(send, SEND_TIMEOUT)
    except asyncio.TimeoutError:
        if request.transport is not None:
            request.transport.abort()
    except ConnectionError:
        return  # the receiving coroutine notices, too
