"""Images for the pages: of each camera the newest, no faster than the page says that it has shown the ones before."""

from __future__ import annotations

import asyncio
import struct

from aiohttp import web

from vla_ros.console.connection import LOGGER, Door, send_all, texts
from vla_ros.console.errors import RequestError
from vla_ros.console.link import GraphLink
from vla_ros.console.outbox import Outbox
from vla_ros.console.protocol import parse_object

MOST_VIEWERS = 32
"""Pages that may show images at a time; the others do without."""

PERIOD = 0.05
"""How often a new image is looked for, s."""

UNSHOWN = 2
"""Images that a page may have been sent and not shown yet."""

ANSWER_RATE = 250.0
"""Messages that a page may send, 1/s: one for each image that it has shown."""

HEADER = struct.Struct(">BI")
"""Before each JPEG: which camera, and the number of the image."""


class _Viewer:
    def __init__(self) -> None:
        self.outbox: Outbox[bytes] = Outbox()
        self.cameras: frozenset[str] = frozenset()
        self._free, self._sent = asyncio.Semaphore(UNSHOWN), 0

    async def turn(self) -> None:
        """Wait until the page has shown enough of what it was sent."""
        await self._free.acquire()
        self._sent += 1

    def shown(self) -> None:
        if self._sent > 0:
            self._sent -= 1
            self._free.release()


class ImageServer:
    """All pages that look through the cameras. Used by one event loop."""

    def __init__(self, link: GraphLink, door: Door) -> None:
        """Show the cameras of `link`."""
        self._link, self._door = link, door
        self._viewers: set[_Viewer] = set()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Serve one page's connection."""
        connection, hello = await self._door.accept(request)
        if hello is None:
            return connection
        viewer = _Viewer()
        self._viewers.add(viewer)
        writer = asyncio.create_task(send_all(request, connection, viewer.outbox, viewer.turn))
        try:
            await texts(connection, lambda text: self._take(viewer, text), ANSWER_RATE)
        finally:
            writer.cancel()
            self._viewers.discard(viewer)
            self._door.leave()
            self._choose()
        return connection

    def _take(self, viewer: _Viewer, text: str) -> None:
        value = parse_object(text)
        if value == {"type": "shown"}:
            viewer.shown()
            return
        cameras = value.get("cameras")
        if value.get("type") != "show" or not isinstance(cameras, list) or not set(map(str, cameras)) <= set(
            self._link.cameras
        ):  # fmt: skip
            raise RequestError(f"expected shown, or show with some of the cameras {list(self._link.cameras)}")
        viewer.cameras = frozenset(map(str, cameras))
        self._choose()

    def _choose(self) -> None:
        self._link.show(frozenset().union(*(viewer.cameras for viewer in self._viewers)))

    async def distribute(self) -> None:
        """Hand new images out, for ever."""
        sent: dict[str, int] = {}
        while True:
            await asyncio.sleep(PERIOD)
            try:
                self._hand_out(sent)
            except Exception:
                LOGGER.exception("images of the console")

    def _hand_out(self, sent: dict[str, int]) -> None:
        for index, camera in enumerate(self._link.cameras):
            viewers = [viewer for viewer in self._viewers if camera in viewer.cameras]
            frame = self._link.frame(camera) if viewers else None
            if frame is None or sent.get(camera) == frame.number:
                continue
            sent[camera] = frame.number
            content = HEADER.pack(index, frame.number % 2**32) + frame.jpeg
            for viewer in viewers:
                viewer.outbox.put(camera, content)
