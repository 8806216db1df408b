"""A link to a policy server that connects, and connects again, in a thread of its own; every wait has a deadline.

The protocol numbers nothing: an answer belongs to the request before it. So while the answer to a request is due, no
other request is sent, and an answer that comes too late is dropped when it comes.
"""

from __future__ import annotations

import random
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.protocol import State
from websockets.sync.client import ClientConnection, connect

from vla_ros.errors import LinkError, VlaError, WireError
from vla_ros.policies.remote.address import Address
from vla_ros.policies.remote.wire import unpack

GREETING_TIMEOUT = 5.0
"""Time, s, in which a server has to open the connection, and then to send its metadata."""

SEND_TIMEOUT = 1.0
"""Time, s, in which a server has to take in the bytes of a request."""

CLOSE_TIMEOUT = 0.3
PING_PERIOD = 5.0
"""Time, s, between pings, and until one that is not answered closes the connection."""

ABANDONED_AFTER = 120.0
"""Time, s, after which an answer that is due closes the connection: a first inference may compile for a minute."""

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 2.0
"""Back-off, s, between attempts: it doubles, and a random half of it is left out."""

LOOK_PERIOD = 0.25
TOO_BIG, UNAUTHORIZED = 1009, (401, 403)


class Link:
    """See the module. `ask` is called by one thread at a time."""

    def __init__(
        self, address: Address, greet: Callable[[Mapping[str, Any]], None], *, token: str = "",
        tls: ssl.SSLContext | None = None, max_bytes: int,
    ) -> None:  # fmt: skip
        """Begin to connect.

        Args:
            address: Of the server.
            greet: Looks at the metadata of each new connection, in the link's thread; a `VlaError` refuses it.
            token: Sent as `Authorization: Api-Key <token>`; nothing is sent where it is empty.
            tls: For a secure address.
            max_bytes: Longest message that is taken.
        """
        self._address, self._greet, self._token, self._tls = address, greet, token, tls
        self._max_bytes = max_bytes
        self._change = threading.Condition()
        self._connection: ClientConnection | None = None
        self._reason = f"no connection to {address} yet"
        self._refusal: VlaError | None = None
        self._closed, self._generation = False, 0
        self._due_since: float | None = None
        self._thread = threading.Thread(target=self._keep_connected, name="policy link", daemon=True)
        self._thread.start()

    @property
    def generation(self) -> int:
        """Number of connections so far: a server knows nothing of what came over an earlier one."""
        with self._change:
            return self._generation

    def wait(self, timeout: float) -> bool:
        """Wait up to `timeout` s for a connection, and return whether there is one.

        Raises:
            VlaError: as `greet` does, when it has refused the server.
        """
        with self._change:
            self._change.wait_for(lambda: self._connection is not None or self._refusal is not None, timeout)
            if self._refusal is not None:
                raise self._refusal
            return self._connection is not None

    def ask(self, request: bytes, timeout: float) -> bytes | str:
        """Return the answer to a request: bytes, or the text of the server's error.

        Raises:
            LinkError: without a connection, while an earlier answer is due, or without one within `timeout` s.
            WireError: for an answer that is too large.
            VlaError: as `greet` does, while the server that is there is refused.
        """
        with self._change:
            connection, reason, refusal = self._connection, self._reason, self._refusal
        if connection is None:
            raise refusal or LinkError(reason)
        try:
            self._drop_late_answer(connection)
            self._due_since = time.monotonic()
            connection.send(request)
            answer = connection.recv(timeout=max(self._due_since + timeout - time.monotonic(), 0.0))
        except TimeoutError:
            raise LinkError(f"{self._address} has not answered within {timeout} s") from None
        except ConnectionClosed as error:
            raise self._lost(connection, error) from error
        self._due_since = None
        return answer

    def close(self) -> None:
        """End the connection and the thread; bounded by the deadlines above."""
        with self._change:
            self._closed = True
            self._change.notify_all()
        self._thread.join(2.0 * GREETING_TIMEOUT + CLOSE_TIMEOUT)

    def explain(self) -> str:
        """Return why there is no connection."""
        with self._change:
            return self._reason

    def _drop_late_answer(self, connection: ClientConnection) -> None:
        if self._due_since is None:
            return
        waited = time.monotonic() - self._due_since
        try:
            connection.recv(timeout=0)
        except TimeoutError:
            if waited > ABANDONED_AFTER:
                self._drop(connection, f"{self._address} has not answered for {waited:.0f} s; connecting again")
            raise LinkError(f"{self._address} has not answered an earlier request for {waited:.1f} s") from None
        self._due_since = None

    def _lost(self, connection: ClientConnection, error: ConnectionClosed) -> VlaError:
        """Drop a connection that has ended, and return what to raise."""
        self._drop(connection, f"{self._address} has closed the connection ({_close_reason(error)})")
        if error.sent is not None and error.sent.code == TOO_BIG:
            return WireError(f"{self._address} sent a message of more than {self._max_bytes} bytes, which was refused")
        return LinkError(self.explain())

    def _drop(self, connection: ClientConnection, reason: str) -> None:
        with self._change:
            if self._connection is connection:
                self._connection, self._reason = None, reason
            self._due_since = None
            self._change.notify_all()

    def _keep_connected(self) -> None:
        pause = FIRST_PAUSE
        while not self._closed:
            with ExitStack() as stack:
                connection = self._connect(stack)
                if connection is not None:
                    pause = FIRST_PAUSE
                    self._watch(connection)
                    continue
            with self._change:
                self._change.wait_for(lambda: self._closed, pause * random.uniform(0.5, 1.0))
            pause = min(2.0 * pause, LONGEST_PAUSE)

    def _watch(self, connection: ClientConnection) -> None:
        """Return when a connection has ended, was dropped, or the link is closed."""
        while True:
            with self._change:
                self._change.wait_for(lambda: self._closed or self._connection is not connection, LOOK_PERIOD)
                if self._closed or self._connection is not connection:
                    return
            if connection.state is State.CLOSED:
                self._lost(connection, connection.close_exc)

    def _connect(self, stack: ExitStack) -> ClientConnection | None:
        """Return a connection whose metadata was accepted; None when there is none now, with the reason kept."""
        refusal = None
        try:
            opening = connect(
                self._address.uri, compression=None, max_size=self._max_bytes, ssl=self._tls, proxy=None,
                open_timeout=GREETING_TIMEOUT, close_timeout=CLOSE_TIMEOUT, ping_interval=PING_PERIOD,
                ping_timeout=PING_PERIOD, additional_headers=self._headers(),
            )  # fmt: skip
            connection = stack.enter_context(opening)
            _bound_sending(connection.socket)
            greeting = connection.recv(timeout=GREETING_TIMEOUT)
            if isinstance(greeting, str):
                raise WireError(f"it greets with the text {greeting[:120]!r}, expected its metadata as msgpack")
            self._greet(unpack(greeting))
        except VlaError as error:
            reason, refusal = f"{self._address} is refused: {error}", error
        except ConnectionClosed as error:
            reason = f"{self._address} has closed the connection ({_close_reason(error)})"
        except InvalidStatus as error:
            reason = self._turned_away(error.response.status_code)
        except (OSError, InvalidHandshake, TimeoutError) as error:
            reason = f"no connection to {self._address}: {_why(error)}"
        except Exception as error:  # whatever a library or a server makes of it, the next attempt follows
            reason = f"no connection to {self._address}: {type(error).__name__}: {error}"
        else:
            self._established(connection)
            return connection
        with self._change:
            self._reason, self._refusal = reason, refusal
            self._change.notify_all()
        return None

    def _established(self, connection: ClientConnection) -> None:
        with self._change:
            self._connection, self._refusal, self._due_since = connection, None, None
            self._generation += 1
            self._change.notify_all()

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Api-Key {self._token}"} if self._token else {}

    def _turned_away(self, status: int) -> str:
        if status in UNAUTHORIZED:
            what = "refuses this token" if self._token else "asks for a token"
            return f"{self._address} {what} (HTTP {status})"
        return f"{self._address} answers with HTTP {status}, expected a WebSocket"


def _bound_sending(connected: socket.socket) -> None:
    """Let a send that makes no progress fail; a timeout of the socket would end its idle reader, too."""
    seconds, microseconds = divmod(int(1e6 * SEND_TIMEOUT), 1_000_000)
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", seconds, microseconds))
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _close_reason(error: ConnectionClosed) -> str:
    frame = error.rcvd or error.sent
    if frame is None:
        return "without a word"
    return f"code {frame.code}" + (f", {frame.reason[:120]!r}" if frame.reason else "")


def _why(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
