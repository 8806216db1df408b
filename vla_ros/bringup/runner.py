"""Start the graph without `launch`: processes, ordered lifecycle, supervision, orderly shutdown.

Usage:

    with GraphRunner({"seed": 7}) as graph:       # all nodes are active when the block begins
        graph.node.create_subscription(...)       # a node of this process in its DDS domain, spun in a thread
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import rclpy
from rclpy.context import Context
from rclpy.exceptions import InvalidHandle
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from std_srvs.srv import SetBool

import vla_ros
from vla_ros.bringup.external_simulator import require_simulator
from vla_ros.bringup.running_graphs import LOCK_FILE, RunningGraph, announce
from vla_ros.domain_id import domain_id_of_shell
from vla_ros.ros.dds.domains import claim_chosen_domain, claim_domain, is_inhabited
from vla_ros.ros.dds.environment_check import require_loopback
from vla_ros.ros.dds.loopback import RANGE_VARIABLE, is_meant_to_be_alone, strays, udp_sockets
from vla_ros.ros.dds.profile import UNKNOWN, image_bytes, local_environment
from vla_ros.ros.graph.description import EXTERNAL, Graph, NodeDescription, load_graph
from vla_ros.ros.graph.duplicate_nodes import require_unique_names
from vla_ros.ros.graph.processes import ProcessDescription, processes_of
from vla_ros.ros.process import NodeProcess
from vla_ros.ros.transitions import ACTIVATE, CONFIGURE, GraphError, LifecycleClient

STATE_FILE = "graph.json"
LOG_FOLDER = "log"
TRACE_FOLDER = "trace"
END_GRACE = 4.0
"""Time for all nodes together to exit cleanly, s."""

_SUPERVISION = 0.2


def _told(path: Path) -> str:
    """Describe a graph from its `graph.json`."""
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
        return f"process {int(state['pid'])} in domain {int(state['domain_id'])}"
    except (OSError, ValueError, KeyError, TypeError):
        return "which is just starting or ending"


def graph_environment(
    domain: int, base: Mapping[str, str] = os.environ, *, images: float = UNKNOWN, shared_memory: bool = True
) -> dict[str, str]:
    """Return the environment of the graph's processes: local discovery, own domain, shared memory sized for images.

    `images` is the size of one image of everything a process publishes, bytes; 0: room for messages only. Without
    `shared_memory` the process waits for no other process.
    """
    source = str(Path(vla_ros.__file__).parent.parent)
    paths = [source, *filter(None, base.get("PYTHONPATH", "").split(os.pathsep))]
    defaults = {
        "RMW_FASTRTPS_USE_QOS_FROM_XML": "0",
        "OPENBLAS_NUM_THREADS": "1",  # small matrices: pool threads only take CPU time from the control thread
        "OMP_NUM_THREADS": "1",
    }
    return {
        **defaults,
        **base,
        **local_environment(images, base, shared_memory=shared_memory),
        "ROS_DOMAIN_ID": str(domain),
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths)),
        "PYTHONUNBUFFERED": "1",
        "RCUTILS_COLORIZED_OUTPUT": "0",
    }


_profile_is_another = [False]
"""Whether this process used the middleware before `RosLink`: profiles are read once, so loopback.xml was not."""


def _joined(name: str, domain: int) -> tuple[Context, Node]:
    context = Context()
    rclpy.init(args=[], context=context, domain_id=domain, signal_handler_options=SignalHandlerOptions.NO)
    return context, Node(name, context=context, use_global_arguments=False)


class RosLink:
    """A node of this process in a given domain, spun in the background."""

    def __init__(self, name: str, domain: int) -> None:
        """Join `domain` as the node `name`.

        Raises:
            RosEnvironmentError: when this machine has no loopback interface.
        """
        require_loopback()
        # The middleware reads these on first use. The domain is not among them, because child processes must not join
        # it by accident.
        os.environ.setdefault("RMW_FASTRTPS_USE_QOS_FROM_XML", "0")
        os.environ.update(local_environment(UNKNOWN, shared_memory=False))
        if _profile_is_another[0]:
            os.environ[RANGE_VARIABLE] = "LOCALHOST"
        before = udp_sockets()
        self._context, self.node = _joined(name, domain)
        if is_meant_to_be_alone() and strays(before):
            _profile_is_another[0] = True
            self.node.destroy_node()
            self._context.try_shutdown()
            os.environ[RANGE_VARIABLE] = "LOCALHOST"
            self._context, self.node = _joined(name, domain)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._spin, name=name, daemon=True)
        self._thread.start()

    def _spin(self) -> None:
        with contextlib.suppress(ExternalShutdownException):
            while not self._closing.is_set():
                # rclpy raises this when another thread destroys a publisher or subscription that is being waited for.
                with contextlib.suppress(InvalidHandle):
                    self._executor.spin()

    def close(self) -> None:
        """Leave the domain."""
        self._closing.set()
        self._executor.shutdown(timeout_sec=2.0)
        self._thread.join(timeout=2.0)
        if not self._thread.is_alive():  # before the context, because its publisher on /rosout is destroyed with it
            self.node.destroy_node()
        self._context.try_shutdown()


class GraphRunner:
    """The running graph. `node` is a node of this process in its domain; `failure` describes the first failure."""

    def __init__(
        self,
        arguments: Mapping[str, Any] | None = None,
        *,
        graph: Graph | None = None,
        simulation: bool | str = True,
        domain: int | None = None,
        folder: str | Path = "runs",
        disarms: bool = False,
        progress: Callable[[str], None] = lambda line: None,
    ) -> None:
        """Prepare a graph; nothing starts before `start`.

        Args:
            arguments: Arguments of the graph that override the defaults.
            graph: Graph description; None: the shipped one.
            simulation: "mujoco", "gazebo" or "external"; True: the graph's default; "" (or False): the real robot.
            domain: DDS domain; None: a free one, or that of the shell for an external simulator.
            folder: Its `graph.json` says how to reach the graph; logs and parameter files go to `log/`, the trace to
                `trace/`. Exclusive to this graph while it runs.
            disarms: Disarm the robot when a node has crashed and is restarted, so that an operator inspects the failure
                before arming again, as with `bringup.launch.py`.
            progress: Called with a human-readable line at every step.

        Raises:
            ContractError: when the description or an argument is invalid.
            UsageError: when `domain` is invalid.
            GraphError: when another graph uses the domain, or all of them are in use.
        """
        graph = graph or load_graph()
        if "trace_folder" in graph.arguments:
            arguments = {"trace_folder": str(Path(folder).absolute() / TRACE_FOLDER), **(arguments or {})}
        self.simulator = graph.simulator(simulation)
        self.descriptions = graph.resolve(arguments, simulation=self.simulator)
        self.processes = processes_of(self.descriptions)
        self._process_of = {node.name: process for process in self.processes for node in process.nodes}
        if domain is None and self.simulator == EXTERNAL:
            domain = domain_id_of_shell()
        self.domain, self._claim = claim_domain() if domain is None else (domain, claim_chosen_domain(domain))
        self.folder = Path(folder)
        self.failure = ""
        self._disarms, self._progress = disarms, progress
        self._processes: dict[str, NodeProcess] = {}
        self._restarts: dict[str, int] = {}
        self._gone: set[str] = set()
        self._link: RosLink | None = None
        self._hold: IO[bytes] | None = None
        self._note: Path | None = None
        self._ending = threading.Event()
        self._lock = threading.Lock()
        self._supervisor = threading.Thread(target=self._supervise, name="supervisor", daemon=True)

    @property
    def node(self) -> Node:
        """Node of this process in the graph's domain.

        Raises:
            GraphError: before `start` and after `close`.
        """
        if self._link is None:
            raise GraphError("the graph does not run: call start()")
        return self._link.node

    def process(self, name: str) -> NodeProcess:
        """Return the process of the node called `name`, which it may share with others."""
        return self._processes[self._process_of[name].name]

    def start(self) -> None:
        """Start every node and activate it, in the order of the description.

        Raises:
            GraphError: when another graph uses the folder, nodes of these names already exist in the domain, or a node
                does not come up (with the end of its log). Everything has been shut down again by then.
        """
        try:
            self._hold_folder()
            inhabited = is_inhabited(self.domain)  # nodes started by hand or by `ros2 launch`
            self._link = RosLink("vla_ros_runner", self.domain)
            if inhabited:
                require_unique_names(
                    self._link.node,
                    [f"/{one.name}" for one in self.descriptions],
                    own_clock=any(one.simulation == "mujoco" for one in self.descriptions),
                )
            if self.simulator == EXTERNAL:
                require_simulator(self._link.node, self.descriptions)
            self._lifecycle = LifecycleClient(self._link.node)
            self._arm = self._link.node.create_client(SetBool, "vla/arm")
            for process in self.processes:
                self._launch(process)
            self._write_state()
            for description in self.descriptions:
                self._bring(description, CONFIGURE)
            for description in self.descriptions:
                self._bring(description, ACTIVATE)
        except BaseException:
            self.close()
            raise
        self._supervisor.start()

    def _hold_folder(self) -> None:
        """Lock the folder against other graphs. The lock of a killed graph has ended with it."""
        lock = self.folder / LOCK_FILE
        lock.parent.mkdir(parents=True, exist_ok=True)
        hold = lock.open("wb")
        try:
            fcntl.flock(hold, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            hold.close()
            raise GraphError(
                f"{self.folder} is used by another graph, {_told(self.folder / STATE_FILE)}: end it, or choose another "
                "folder (--out)"
            ) from error
        self._hold = hold
        (self.folder / STATE_FILE).unlink(missing_ok=True)

    def _launch(self, description: ProcessDescription) -> None:
        environment = graph_environment(
            self.domain, images=image_bytes(description.nodes), shared_memory=description.shared_memory
        )
        with self._lock:
            if not self._ending.is_set():
                self._processes[description.name] = NodeProcess(description, environment, self.folder / LOG_FOLDER)

    def _bring(self, description: NodeDescription, transition: int) -> None:
        process = self.process(description.name)
        configuring = transition == CONFIGURE
        timeout = description.configure_timeout if configuring else description.activate_timeout
        began = time.monotonic()

        def alive() -> bool:
            return process.exit_code() is None and not self._ending.is_set()

        try:
            self._lifecycle.change(description.name, transition, timeout, alive)
        except GraphError as error:
            reason = process.reason()
            sentence = f"{description.name}: {reason}" if reason else str(error)
            raise GraphError(f"{sentence}\n--- {process.log_path}\n{process.last_lines()}") from error
        word = "configured" if configuring else "active"
        self._progress(f"{description.name} {word} ({time.monotonic() - began:.1f} s)")

    def _write_state(self) -> None:
        """Write how to reach the graph for other processes (`vla-ros say`)."""
        state = {
            "domain_id": self.domain,
            "pid": os.getpid(),
            "nodes": {node.name: self.process(node.name).pid for node in self.descriptions},
        }
        (self.folder / STATE_FILE).write_text(json.dumps(state, indent=2) + "\n", encoding="utf-8")
        with contextlib.suppress(OSError):  # without the note the graph is found only through its folder
            self._note = announce(RunningGraph(str(self.folder.resolve()), self.domain, os.getpid()))

    def _supervise(self) -> None:
        """Restart crashed processes as often as their descriptions allow; then a required one counts as a failure."""
        while not self._ending.wait(_SUPERVISION):
            for description in self.processes:
                process = self._processes[description.name]
                code = process.exit_code()
                if code is None or self._ending.is_set() or description.name in self._gone:
                    continue
                used = self._restarts.get(description.name, 0)
                if used >= description.restarts:
                    self._give_up(description, process, code)
                    continue
                self._restarts[description.name] = used + 1
                self._progress(f"{description.title} ended with {code}; start {used + 2} of {description.restarts + 1}")
                self._restart(description)

    def _restart(self, description: ProcessDescription) -> None:
        if self._disarms and self._arm.service_is_ready():
            self._arm.call_async(SetBool.Request(data=False))
            self._progress("the robot is asked to rest and to disarm: look at what died, then arm it again (/vla/arm)")
        try:
            self._revive(description)
        except GraphError as error:
            self._progress(str(error))
            self._processes[description.name].end(time.monotonic() + 1.0)

    def _revive(self, description: ProcessDescription) -> None:
        """Start a process that has ended, and activate each of its nodes."""
        self._launch(description)
        for transition in (CONFIGURE, ACTIVATE):
            for node in description.nodes:
                self._bring(node, transition)
        self._write_state()

    def revive(self, name: str) -> None:
        """Restart a node that the runner has given up, as an operator does after inspecting the robot.

        Raises:
            GraphError: when it, or a node that shares its process, does not come up.
        """
        description = self._process_of[name]
        self._revive(description)
        self.failure = ""
        self._gone.discard(description.name)

    def _give_up(self, description: ProcessDescription, process: NodeProcess, code: int) -> None:
        self._gone.add(description.name)
        sentence = f"{description.title} ended with {code}\n--- {process.log_path}\n{process.last_lines()}"
        if description.required or description.restarts:
            self.failure = self.failure or sentence
        self._progress(sentence)

    def close(self) -> None:
        """End all started processes in reverse order; safe to call twice."""
        self._ending.set()
        if self._supervisor.is_alive():
            self._supervisor.join(timeout=10.0)
        with self._lock:
            processes = list(self._processes.values())[::-1]
            for process in processes:
                process.signal(signal.SIGINT)
            deadline = time.monotonic() + END_GRACE
            for process in processes:
                process.end(deadline)
        if self._link is not None:
            self._link.close()
            self._link = None
        if self._hold is not None:
            (self.folder / STATE_FILE).unlink(missing_ok=True)
            if self._note is not None:
                self._note.unlink(missing_ok=True)
            self._hold.close()
            self._hold = None
        self._claim.close()

    def __enter__(self) -> GraphRunner:
        """Start the graph."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End the graph, also after an exception."""
        self.close()
