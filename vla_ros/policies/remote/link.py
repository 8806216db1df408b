"""Client connection to a policy server, (re)connected by a background thread; every wait has a deadline.

The protocol has no message ids: an answer belongs to the request before it. So no request is sent while the answer to
another one is pending, and a late answer is discarded when it arrives.
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
"""Time limit, s, for a server to open the connection, and again to send its metadata."""

SEND_TIMEOUT = 1.0
"""Time limit, s, for a server to receive the bytes of a request."""

CLOSE_TIMEOUT = 0.3
PING_PERIOD = 5.0
"""Interval between pings, s, and time after which an unanswered one closes the connection."""

ABANDONED_AFTER = 120.0
"""Time, s, after which a pending answer closes the connection: a first inference may compile for a minute."""

FIRST_PAUSE, MAX_PAUSE = 0.1, 2.0
"""Back-off range between attempts, s: it doubles each time, and is shortened at random by up to half."""

LOOK_PERIOD = 0.25
TOO_BIG, UNAUTHORIZED = 1009, (401, 403)


class Link:
    """Reconnecting client of a policy server, see the module. Only one thread at a time may call `ask`."""

    def __init__(
        self,
        address: Address,
        greet: Callable[[Mapping[str, Any]], None],
        *,
        token: str = "",
        tls: ssl.SSLContext | None = None,
        max_bytes: int,
    ) -> None:
        """Start connecting.

        Args:
            address: Address of the server.
            greet: Checks the metadata of each new connection, in the link's thread; raises a `VlaError` to reject it.
            token: Sent as `Authorization: Api-Key <token>`; no header if it is empty.
            tls: TLS context, for a secure address.
            max_bytes: Largest accepted message.
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
        """Number of connections so far; a server keeps no state across connections."""
        with self._change:
            return self._generation

    def wait(self, timeout: float) -> bool:
        """Wait up to `timeout` s for a connection, and return whether there is one.

        Raises:
            VlaError: the one raised by `greet`, when it has rejected the server.
        """
        with self._change:
            self._change.wait_for(lambda: self._connection is not None or self._refusal is not None, timeout)
            if self._refusal is not None:
                raise self._refusal
            return self._connection is not None

    def ask(self, request: bytes, timeout: float) -> bytes | str:
        """Send a request and return the answer: bytes, or the text of the server's error.

        Raises:
            LinkError: without a connection, while an earlier answer is pending, or without an answer in `timeout` s.
            WireError: when the answer is too large.
            VlaError: the one raised by `greet`, while the server is rejected.
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
        """Close the connection and end the thread, within the deadlines above."""
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
        """Drop a closed connection, and return the exception to raise."""
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
            pause = min(2.0 * pause, MAX_PAUSE)

    def _watch(self, connection: ClientConnection) -> None:
        """Return when a connection has closed or was dropped, or the link is closed."""
        while True:
            with self._change:
                self._change.wait_for(lambda: self._closed or self._connection is not connection, LOOK_PERIOD)
                if self._closed or self._connection is not connection:
                    return
            if connection.state is State.CLOSED:
                self._lost(connection, connection.close_exc)

    def _connect(self, stack: ExitStack) -> ClientConnection | None:
        """Return a connection whose metadata was accepted; otherwise record the reason and return None."""
        refusal = None
        try:
            opening = connect(
                self._address.uri,
                compression=None,
                max_size=self._max_bytes,
                ssl=self._tls,
                proxy=None,
                open_timeout=GREETING_TIMEOUT,
                close_timeout=CLOSE_TIMEOUT,
                ping_interval=PING_PERIOD,
                ping_timeout=PING_PERIOD,
                additional_headers=self._headers(),
            )
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
        except Exception as error:  # any other error of the library or the server: the next attempt follows
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
    """Set a send timeout on the socket; a general socket timeout would also end its idle reader."""
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
