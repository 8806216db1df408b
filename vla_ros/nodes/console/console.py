"""Runs the operator console on a node: web server, emergency stop button, and client of the graph."""

from __future__ import annotations

from pathlib import Path

from rclpy.node import Node

from vla_ros.console.access import SHORTEST_TOKEN
from vla_ros.console.errors import ConsoleError
from vla_ros.console.estop_line import EstopLine
from vla_ros.console.server import ConsoleOptions, ConsoleServer
from vla_ros.nodes.console.graph import ConsoleGraph
from vla_ros.paths import expanded
from vla_ros.robot.contract import RobotContract


class Console:
    """Runs from construction until `close`."""

    def __init__(
        self,
        node: Node,
        contract: RobotContract,
        options: ConsoleOptions,
        *,
        page_timeout: float = 0.0,
        recordings: Path | None = None,
    ) -> None:
        """Start serving pages; another thread spins `node`.

        Args:
            node: Node in the graph's domain and namespace.
            contract: Robot contract.
            options: Listening address and other options of the server.
            page_timeout: Silence of the page in command that triggers an emergency stop, s; 0: disabled.
            recordings: Folder of MCAP episodes; None: recording is disabled.

        Raises:
            ConsoleError: when it cannot listen on the address, or would allow anyone to connect.
        """
        self._graph = ConsoleGraph(node, contract, recordings=recordings, view_only=options.view_only)
        try:
            self._line = EstopLine(self._graph.publish_estop, page_timeout)
            self._server = ConsoleServer(self._graph, self._line, options)
            self._server.start()
        except BaseException:
            self._graph.close()
            raise

    @property
    def address(self) -> str:
        """The page's URL including the token: for the operator, not for a log."""
        return self._server.address

    @property
    def pages(self) -> int:
        """Number of connected pages."""
        return self._server.pages

    def close(self) -> None:
        """Stop serving. The safety node treats the disappearance of the button as an emergency stop."""
        self._server.close()
        self._graph.close()


def read_token(file: str) -> str:
    """Return the token in a file; "" if no file is given.

    Raises:
        ConsoleError: when the file cannot be read or is empty.
    """
    if not file:
        return ""
    try:
        token = expanded(file).read_text(encoding="ascii").strip()
    except (OSError, UnicodeError) as error:
        raise ConsoleError(f"token file {file}: {getattr(error, 'strerror', None) or 'expected ASCII text'}") from error
    if not token:
        raise ConsoleError(f"token file {file} is empty: expected at least {SHORTEST_TOKEN} characters")
    return token
