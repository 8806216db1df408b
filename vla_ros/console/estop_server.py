"""Serve the emergency stop on its own port, thread and event loop, so that no image, status or other page delays it.

page      {"type": "press"}     at any time
          {"type": "beat"}      five times a second
console   {"pressed": ..., "presses": ...}   after each press
"""

from __future__ import annotations

import asyncio
import json
import ssl
from typing import Any

from aiohttp import web

from vla_ros.console.access import Access
from vla_ros.console.connection import LOGGER, Door, Listener, texts
from vla_ros.console.errors import RequestError
from vla_ros.console.estop_line import EstopLine
from vla_ros.console.protocol import parse_object

PERIOD = 0.1
"""Publishing period of the button, s. In heartbeat mode, the safety layer's `estop_timeout` must be several times this.
"""

MOST_CONNECTIONS = 256


class EstopServer:
    """Serves the button to every page."""

    def __init__(self, line: EstopLine, access: Access, port: int, tls: ssl.SSLContext | None = None) -> None:
        """Bind to `port` (0 for a free one); the button publishes from `start` on.

        Raises:
            ConsoleError: see `Listener`.
        """
        self._line = line
        # The page comes from the other port of the same host.
        self._door = Door(access, MOST_CONNECTIONS, same_port=False)
        self._listener = Listener("console estop", access.host, port, tls)
        self.port = self._listener.port
        self._replies: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Start publishing and accept pages."""
        application = web.Application()
        application.router.add_get("/estop", self._handle)
        self._listener.serve(application, self._speak)

    def close(self) -> None:
        """Stop publishing."""
        self._listener.close()

    async def _speak(self) -> None:
        while True:
            try:
                self._line.tick()
            except Exception:
                LOGGER.exception("emergency stop of the console")
            await asyncio.sleep(PERIOD)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        connection, hello = await self._door.accept(request)
        if hello is None:
            return connection
        try:
            await texts(connection, lambda text: self._take(connection, hello, text))
        finally:
            self._door.leave()
        return connection

    def _take(self, connection: web.WebSocketResponse, hello: dict[str, Any], text: str) -> None:
        kind = parse_object(text).get("type")
        if kind == "beat":
            self._line.beat(hello.get("key"))
        elif kind == "press":
            self._line.press(f"pressed on {hello['name'] or 'a page'}")
            reply = asyncio.create_task(self._reply(connection))
            self._replies.add(reply)
            reply.add_done_callback(self._replies.discard)
        else:
            raise RequestError("expected press or beat")

    async def _reply(self, connection: web.WebSocketResponse) -> None:
        state = self._line.state()
        try:
            await asyncio.wait_for(connection.send_str(json.dumps(state)), PERIOD * 10)
        except (ConnectionError, asyncio.TimeoutError):
            return  # the button is pressed all the same
