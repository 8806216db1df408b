"""Console server: the page, the graph's status for all pages, command for one.

    /        the page and its files               no token: they contain nothing secret
    /pages   WebSocket: requests and status       one connection per page
    /images  WebSocket: JPEG                      newest wins
    /estop   WebSocket, on its own port           see `estop_server`

A page that reads slowly delays only its own status and images.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import ssl
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

from aiohttp import web

from vla_ros.console.access import Access
from vla_ros.console.commands import Commands
from vla_ros.console.connection import LOGGER, Door, Listener, send_all, texts
from vla_ros.console.errors import RequestError
from vla_ros.console.estop_line import EstopLine
from vla_ros.console.estop_server import EstopServer
from vla_ros.console.images import MOST_VIEWERS, ImageServer
from vla_ros.console.lease import CommandLease
from vla_ros.console.link import Answer, GraphLink
from vla_ros.console.outbox import Outbox
from vla_ros.console.protocol import WITHOUT_COMMAND, parse_request

STATUS_PERIOD = 0.1
"""Status period, s."""

MOST_PAGES = 256

PAGE = {
    "/": ("index.html", "text/html"),
    "/console.css": ("console.css", "text/css"),
    "/console.js": ("console.js", "text/javascript"),
    "/plots.js": ("plots.js", "text/javascript"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
"""Maps each URL path to its file in `page/` and its content type."""

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob:; connect-src 'self' ws: wss:; "
    "frame-ancestors 'none'; form-action 'none'; base-uri 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""Other sites must not frame the page (clickjacking): clicks meant for something else would press its buttons."""


@dataclass(frozen=True)
class ConsoleOptions:
    """Options of the console.

    Attributes:
        host: Listening address.
        port: TCP port of the page; the emergency stop uses the next one. 0: two free ports.
        token: Token that pages must send; required on any address but loopback.
        tls: TLS context with certificate and key; None: no TLS.
        view_only: No page may command, and there is no emergency stop button.
    """

    host: str = "127.0.0.1"
    port: int = 8060
    token: str = ""
    tls: ssl.SSLContext | None = None
    view_only: bool = False


@dataclass
class _Page:
    """One connection: its number, title, secret key and outbox."""

    number: int
    title: str
    key: str = field(default_factory=lambda: secrets.token_hex(8))
    outbox: Outbox[str] = field(default_factory=Outbox)


class ConsoleServer:
    """Serves the console. Both ports are bound on construction; requests are answered from `start` on."""

    def __init__(self, link: GraphLink, line: EstopLine, options: ConsoleOptions) -> None:
        """Serve the graph behind `link`; `line` is its emergency stop button.

        Raises:
            ConsoleError: when it cannot listen on the address, or would allow anyone to connect.
        """
        self._link, self._line, self._options = link, line, options
        access = Access(options.host, options.token)
        self._listener = Listener("console", options.host, options.port, options.tls)
        self.port = self._listener.port
        self._estop: EstopServer | None = None
        if not options.view_only:
            try:
                self._estop = EstopServer(line, access, self.port + 1 if options.port else 0, options.tls)
            except BaseException:
                self._listener.close()
                raise
        self._door = Door(access, MOST_PAGES)
        self._images = ImageServer(link, Door(access, MOST_VIEWERS))
        self._lease = CommandLease()
        self._pages: dict[int, _Page] = {}
        self._last = 0
        self._commands = Commands(link, line, self._send_events)
        self._tasks: set[asyncio.Task[None]] = set()
        folder = files("vla_ros.console") / "page"
        self._files = {path: ((folder / name).read_bytes(), kind) for path, (name, kind) in PAGE.items()}

    @property
    def address(self) -> str:
        """The page's URL including the token, if any. Do not log it."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self._options.host, self._options.host)
        place = f"[{host}]" if ":" in host else host
        scheme = "https" if self._options.tls else "http"
        return f"{scheme}://{place}:{self.port}/" + (f"#token={self._options.token}" if self._options.token else "")

    @property
    def pages(self) -> int:
        """Number of connected pages."""
        return len(self._pages)

    def start(self) -> None:
        """Start serving."""
        application = web.Application()
        for path in PAGE:
            application.router.add_get(path, self._file)
        application.router.add_get("/pages", self._handle)
        application.router.add_get("/images", self._images.handle)
        if self._estop is not None:
            self._estop.start()
        self._listener.serve(application, self._send_status, self._images.distribute)

    def close(self) -> None:
        """Close every connection, the emergency stop last."""
        self._commands.close()
        self._listener.close()
        if self._estop is not None:
            self._estop.close()

    async def _file(self, request: web.Request) -> web.StreamResponse:
        if why := self._door.refusal(request):
            raise web.HTTPForbidden(text=why)
        content, kind = self._files[request.path]
        return web.Response(body=content, content_type=kind, charset="utf-8", headers=HEADERS)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        connection, hello = await self._door.accept(request)
        if hello is None:
            return connection
        self._last += 1
        page = _Page(self._last, f"page {self._last} ({hello['name'] or request.remote})")
        self._pages[page.number] = page
        page.outbox.answer(self._welcome(page))
        page.outbox.put("events", self._events())
        writer = asyncio.create_task(send_all(request, connection, page.outbox))
        try:
            await texts(connection, lambda text: self._take(page, text))
        finally:
            writer.cancel()
            self._leave(page)
        return connection

    def _welcome(self, page: _Page) -> str:
        return json.dumps(
            {
                "type": "welcome",
                "page": page.number,
                "title": page.title,
                "key": page.key,
                "robot": self._link.robot,
                "cameras": list(self._link.cameras),
                "records": self._link.records and not self._options.view_only,
                "view_only": self._options.view_only,
                "estop_port": None if self._estop is None else self._estop.port,
                "page_timeout": self._line.page_timeout,
            }
        )

    def _leave(self, page: _Page) -> None:
        del self._pages[page.number]
        self._door.leave()
        if self._lease.release(page.number):
            self._line.lost(page.key)
            self._commands.note(page.title, "lost", "", Answer(True, "its connection is lost: it commands no more"))

    def _take(self, page: _Page, text: str) -> None:
        """Handle a request; errors are answered, and the page stays connected."""
        try:
            kind, fields = parse_request(text)
            self._refuse(page, kind)
            if kind == "take":
                self._give_command(page)
            elif kind == "release":
                self._take_command_back(page)
            elif kind == "estop":
                self._line.press(f"pressed on {page.title}")
                self._commands.note(page.title, kind, "", Answer(True, "the emergency stop is pressed"))
            else:
                task = asyncio.create_task(self._command(page, kind, fields))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        except RequestError as error:
            self._answer(page, Answer(False, str(error)))

    def _refuse(self, page: _Page, kind: str) -> None:
        if self._options.view_only:
            raise RequestError("this console only shows: it was started with --view-only")
        if kind in WITHOUT_COMMAND or self._lease.holder == page.number:
            return
        raise RequestError(f"{kind}: {self._in_command() or 'nobody'} commands; take the command first")

    def _in_command(self) -> str:
        holder = self._pages.get(self._lease.holder or 0)
        return "" if holder is None else holder.title

    def _give_command(self, page: _Page) -> None:
        if self._lease.holder == page.number:
            return
        if not self._lease.take(page.number):
            raise RequestError(f"{self._in_command()} commands: it must give the command back first")
        self._line.watch(page.key, page.title)
        self._commands.note(page.title, "take", "", Answer(True, "it commands now"))

    def _take_command_back(self, page: _Page) -> None:
        if self._lease.release(page.number):
            self._line.unwatch(page.key)
            self._commands.note(page.title, "release", "", Answer(True, "nobody commands now"))

    async def _command(self, page: _Page, kind: str, fields: dict[str, Any]) -> None:
        try:
            answer = await self._commands.run(page.title, kind, fields)
        except RequestError as error:
            answer = Answer(False, str(error))
        self._answer(page, answer, kind)

    def _answer(self, page: _Page, answer: Answer, kind: str = "") -> None:
        page.outbox.answer(json.dumps({"type": "answer", "to": kind, "done": answer.done, "text": answer.text}))

    def _events(self) -> str:
        return json.dumps({"type": "events", "events": list(self._commands.events)})

    def _send_events(self) -> None:
        content = self._events()
        for page in self._pages.values():
            page.outbox.put("events", content)

    async def _send_status(self) -> None:
        while True:
            await asyncio.sleep(STATUS_PERIOD)
            try:
                content = self._status() if self._pages else ""
                for page in self._pages.values():
                    page.outbox.put("status", content)
            except Exception:
                LOGGER.exception("status of the console")

    def _status(self) -> str:
        command = {"page": self._lease.holder, "title": self._in_command(), "pages": len(self._pages)}
        status = {
            "type": "status",
            "command": command,
            "estop": None if self._options.view_only else self._line.state(),
            **self._link.status(),
        }
        return json.dumps(status, allow_nan=False)
