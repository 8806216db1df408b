"""The operator console as a node of the graph (`console:=true`), in its own process.

Its emergency stop button exists while the node is active: when the node ends, the safety node stops the arm.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from diagnostic_msgs.msg import DiagnosticStatus

from vla_ros.console.access import Access
from vla_ros.console.errors import ConsoleError
from vla_ros.console.estop_line import LONGEST_PAGE_TIMEOUT
from vla_ros.extras import advice
from vla_ros.paths import expanded
from vla_ros.robot.contract import load_contract
from vla_ros.ros.lifecycle import ManagedNode, diagnostic, run_node

if TYPE_CHECKING:
    from vla_ros.nodes.console.console import Console


class ConsoleNode(ManagedNode):
    """Serves the operator console while active."""

    default_robot = "panda"

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 (those of rclpy.node.Node)
        """Create the node, unconfigured."""
        super().__init__("console_node", **options)
        self._console: Console | None = None

    def configure(self) -> None:
        """Read the parameters; nothing listens yet.

        Raises:
            ConsoleError: when the web server is not installed, or anyone would be allowed to connect.
        """
        try:
            from vla_ros.console.server import ConsoleOptions
            from vla_ros.nodes.console.console import read_token
        except ModuleNotFoundError as error:
            library = error.name or ""
            raise ConsoleError(f"the console needs {library}, which is not installed: {advice(library)}") from error
        self._contract = load_contract(self.robot_parameter())
        host = str(self.parameter("host", "127.0.0.1", "address to listen on; any but this machine's needs a token"))
        about = "TCP port of the page, the emergency stop has the next one; 0: two free ones"
        port = int(self.parameter("port", 8060, about, low=0, high=65534))
        token = read_token(str(self.parameter("token_file", "", "file with the token that pages must send")))
        about = "s of silence of the page in command that count as an emergency stop; 0: none do"
        self._page_timeout = float(self.parameter("page_timeout", 0.0, about, low=0.0, high=LONGEST_PAGE_TIMEOUT))
        folder = str(self.parameter("record_folder", "", "of recorded episodes; empty: the page cannot record"))
        self._recordings: Path | None = expanded(folder).absolute() if folder else None
        view_only = bool(self.parameter("view_only", False, "true: no page commands, and there is no emergency stop"))
        self._options = ConsoleOptions(host, port, token, view_only=view_only)
        Access(host, token)  # refuses options that would allow anyone to connect

    def activate(self) -> None:
        """Start serving."""
        from vla_ros.nodes.console.console import Console

        self._console = Console(
            self, self._contract, self._options, page_timeout=self._page_timeout, recordings=self._recordings
        )
        self.get_logger().info(f"the operator console is at {self._place()}")

    def deactivate(self) -> None:
        """Close every connection."""
        console, self._console = self._console, None
        if console is not None:
            console.close()

    def health(self) -> list[DiagnosticStatus]:
        """Report the address and the number of connected pages."""
        if self._console is None:
            return []
        values = {"address": self._place(), "pages": self._console.pages}
        return [diagnostic(self.get_name(), DiagnosticStatus.OK, "serving the operator's page", values)]

    def _place(self) -> str:
        """Return the address without the token, because others read logs and /diagnostics."""
        return "" if self._console is None else self._console.address.partition("#")[0]


def main() -> int:
    """Run the node."""
    return run_node(ConsoleNode)


if __name__ == "__main__":
    raise SystemExit(main())
