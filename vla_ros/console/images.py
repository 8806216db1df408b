"""Send camera images to the pages: only the newest of each camera, at the rate at which each page displays them."""

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
"""Maximum number of pages that show images at a time; further pages get none."""

PERIOD = 0.05
"""Period of checking for new images, s."""

UNSHOWN = 2
"""Maximum number of images sent to a page and not yet acknowledged as shown."""

ANSWER_RATE = 250.0
"""Rate limit of a page's messages, 1/s: it acknowledges each image it has shown."""

HEADER = struct.Struct(">BI")
"""Header of each JPEG: camera index and image number."""


class _Viewer:
    def __init__(self) -> None:
        self.outbox: Outbox[bytes] = Outbox()
        self.cameras: frozenset[str] = frozenset()
        self._free, self._sent = asyncio.Semaphore(UNSHOWN), 0

    async def turn(self) -> None:
        """Wait until the page has acknowledged enough of its images."""
        await self._free.acquire()
        self._sent += 1

    def shown(self) -> None:
        if self._sent > 0:
            self._sent -= 1
            self._free.release()


class ImageServer:
    """Serves camera images to all pages. Used from one event loop."""

    def __init__(self, link: GraphLink, door: Door) -> None:
        """Serve the cameras of `link`."""
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
        if (
            value.get("type") != "show"
            or not isinstance(cameras, list)
            or not set(map(str, cameras)) <= set(self._link.cameras)
        ):
            raise RequestError(f"expected shown, or show with some of the cameras {list(self._link.cameras)}")
        viewer.cameras = frozenset(map(str, cameras))
        self._choose()

    def _choose(self) -> None:
        self._link.show(frozenset().union(*(viewer.cameras for viewer in self._viewers)))

    async def distribute(self) -> None:
        """Distribute new images forever."""
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
