"""WebSocket server of openpi's protocol for one policy; independent of ROS.

A single thread runs inference. Requests wait in a bounded queue, and each client has one request at a time.
Source of the protocol: `websocket_policy_server.py` of openpi.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import ssl
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.protocol import State

from vla_ros.errors import InstructionError, VlaError, WireError
from vla_ros.policies.protocol import Policy
from vla_ros.policies.remote.answers import BUSY, NOT_UNDERSTOOD
from vla_ros.policies.remote.features import get
from vla_ros.policies.remote.openpi import METADATA_KEY
from vla_ros.policies.remote.wire import pack, unpack
from vla_ros.policies.serving.observations import ACTIONS, CONFIDENCE, RESET, read_request, served_features
from vla_ros.policies.serving.sessions import Session, SharedPolicy
from vla_ros.robot.contract import RobotContract

HEALTH_PATH = "/healthz"
MESSAGE_OVERHEAD = 1 << 16
"""Allowance for a request beyond its images and states, bytes."""

OPEN_TIMEOUT, CLOSE_TIMEOUT, SEND_TIMEOUT, PING_PERIOD = 5.0, 1.0, 5.0, 10.0
"""Time limits, s, for a handshake, a closing one, and sending an answer; and the interval between pings, s."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ServeOptions:
    """Options of a policy server.

    Attributes:
        host: Address to listen on.
        port: TCP port; 0 picks a free one.
        token: Token required from clients; "" requires none.
        tls: Certificate and key; None without TLS.
        clients: Largest number of clients at a time.
        queue: Largest number of requests waiting during an inference.
        timeout: Time limit of one inference, s, after which the client receives an error.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    token: str = ""
    tls: ssl.SSLContext | None = None
    clients: int = 16
    queue: int = 8
    timeout: float = 60.0


class PolicyServer:
    """Serves one policy, see the module."""

    def __init__(self, policy: Policy, contract: RobotContract, options: ServeOptions) -> None:
        """Serve `policy`, loaded for the robot of `contract`; it does not listen before `run`."""
        self._policy, self._shared, self._options = policy, SharedPolicy(policy), options
        self.features = served_features(policy, contract)
        metadata = {METADATA_KEY: self.features.to_dict(), "policy": policy.name, "robot": contract.name}
        self._greeting = pack(metadata)
        self._computer = ThreadPoolExecutor(1, "inference")
        self._clients = self._waiting = 0

    async def run(self, stop: asyncio.Event, started: Callable[[int], None] = lambda port: None) -> None:
        """Listen until `stop` is set.

        Args:
            stop: Ends it; clients are notified that the server is going away.
            started: Called with the port once it listens.

        Raises:
            OSError: when it cannot listen on that address.
        """
        self._turn = asyncio.Lock()
        options = self._options
        async with serve(
            self._serve,
            options.host,
            options.port,
            process_request=self._admit,
            ssl=options.tls,
            compression=None,
            max_size=self.features.request_bytes + MESSAGE_OVERHEAD,
            max_queue=2,
            open_timeout=OPEN_TIMEOUT,
            close_timeout=CLOSE_TIMEOUT,
            ping_interval=PING_PERIOD,
            ping_timeout=PING_PERIOD,
            server_header=None,
        ) as server:
            started(next(iter(server.sockets)).getsockname()[1])
            await stop.wait()
        self._computer.shutdown(wait=False, cancel_futures=True)

    def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        """Respond to health checks and rejected clients; return None to accept a WebSocket client."""
        if request.path == HEALTH_PATH:
            return connection.respond(HTTPStatus.OK, "OK\n")
        if not self._knows_token(request.headers.get_all("Authorization")):
            return connection.respond(HTTPStatus.UNAUTHORIZED, "expected 'Authorization: Api-Key <token>'\n")
        if self._clients >= self._options.clients:
            return connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, f"{self._clients} clients are here already\n")
        return None

    def _knows_token(self, sent: list[str]) -> bool:
        if not self._options.token:
            return True
        scheme, _, token = sent[0].partition(" ") if len(sent) == 1 else ("", "", "")
        right = hmac.compare_digest(token.strip().encode(), self._options.token.encode())
        return right and scheme.lower() in ("api-key", "bearer")

    async def _serve(self, connection: ServerConnection) -> None:
        """Serve one client until it disconnects."""
        if self._clients >= self._options.clients:  # several were admitted at the same time
            await connection.close(1013, "too many clients")
            return
        self._clients += 1
        _log.info("client %s has come; %d are here", connection.remote_address, self._clients)
        try:
            session = self._shared.session()
            await self._send(connection, self._greeting)
            async for message in connection:
                await self._send(connection, await self._answer(session, message, connection))
        except (ConnectionClosed, TimeoutError, asyncio.TimeoutError):
            pass
        finally:
            self._clients -= 1
            _log.info("client %s has gone; %d are here", connection.remote_address, self._clients)

    async def _send(self, connection: ServerConnection, message: bytes | str) -> None:
        try:
            await asyncio.wait_for(connection.send(message), SEND_TIMEOUT)
        except (TimeoutError, asyncio.TimeoutError):
            connection.transport.abort()
            raise

    async def _answer(self, session: Session, message: bytes | str, connection: ServerConnection) -> bytes | str:
        """Return the answer to a message: bytes, or the text of an error."""
        arrived = time.monotonic()
        if self._waiting > self._options.queue:
            return f"{BUSY}{self._options.queue} requests are waiting"
        self._waiting += 1
        try:
            async with self._turn:
                if connection.state is not State.OPEN:
                    return "the client has gone"
                began = time.monotonic()
                loop = asyncio.get_running_loop()
                work = loop.run_in_executor(self._computer, self._compute, session, message, arrived)
                answer = await asyncio.wait_for(work, self._options.timeout)
                answer["server_timing"] = {
                    "infer_ms": 1e3 * (time.monotonic() - began),
                    "wait_ms": 1e3 * (began - arrived),
                }
                return pack(answer)
        except InstructionError as error:
            return f"{NOT_UNDERSTOOD}{error}"
        except VlaError as error:
            return f"{type(error).__name__}: {error}"
        except (TimeoutError, asyncio.TimeoutError):
            _log.error("one inference has taken more than %s s", self._options.timeout)
            return f"TimeoutError: the policy has been computing for more than {self._options.timeout} s"
        except Exception as error:  # a policy is third-party code: its exceptions must not end the server
            _log.exception("the policy raised an error")
            return f"{type(error).__name__}: the policy raised an error; the server's log has its traceback"
        finally:
            self._waiting -= 1

    def _compute(self, session: Session, message: bytes | str, arrived: float) -> dict[str, Any]:
        """Return the answer to a request; runs in the inference thread."""
        if isinstance(message, str):
            raise WireError("got a text, expected an observation as msgpack")
        values: Mapping[str, Any] = unpack(message)
        observation = read_request(values, self.features, arrived)
        chunk = session.predict(observation, first=bool(get(values, RESET)))
        return {ACTIONS: chunk.actions, CONFIDENCE: float(chunk.trust)}
