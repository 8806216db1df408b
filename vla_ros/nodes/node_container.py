"""Run several managed nodes in one process, each with its own executor and thread.

    ros2 run vla_ros node_container perception_node instruction_node --ros-args \
        -r perception_node:__node:=front_perception -p front_perception:skew_tolerance:=0.1

They share one interpreter, one DDS participant and one copy of the libraries. A long callback delays only its own node;
the others wait at most for the GIL. They end together: a node that crashes takes the process down, which is why the
safety node and the simulator are refused here.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import takewhile

import rclpy
from rclpy.executors import SingleThreadedExecutor

from vla_ros.errors import UsageError
from vla_ros.priority import prefer_process
from vla_ros.ros.dds.loopback import require_loopback_alone, udp_sockets
from vla_ros.ros.executor import make_executor
from vla_ros.ros.graph.processes import ALONE
from vla_ros.ros.lifecycle import END_GRACE, SPIN_TIMEOUT, ManagedNode, begin_process, end_within_grace, spin

SWITCH_INTERVAL = 1e-3
"""GIL switch interval, s, the time one node's thread may keep the GIL; Python's default is five times longer."""


def node_class(executable: str) -> type[ManagedNode]:
    """Return the node class of an executable of this package, e.g. `PerceptionNode` for "perception_node".

    Raises:
        UsageError: when there is none, or it must run alone.
    """
    if executable in ALONE:
        raise UsageError(f"{executable} runs alone and shares no process: start it by ros2 run vla_ros {executable}")
    module = f"vla_ros.nodes.{executable}"
    if not re.fullmatch(r"[a-z_]+_node", executable) or importlib.util.find_spec(module) is None:
        raise UsageError(f"no node '{executable}' in this package, expected one such as perception_node")
    found = getattr(importlib.import_module(module), "".join(map(str.capitalize, executable.split("_"))), None)
    if not (isinstance(found, type) and issubclass(found, ManagedNode)):
        raise UsageError(f"{executable} is no managed node and cannot share a process")
    return found


def run_nodes(makes: Sequence[Callable[[], ManagedNode]], arguments: Sequence[str] | None = None) -> int:
    """Run several nodes in this process until a signal ends it; return the exit code.

    Signals and exceptions in callbacks are handled as by `run_node`. A node whose thread ends unexpectedly ends the
    process with exit code 1, because the supervisor restarts processes, not threads.
    """
    stopping = begin_process(arguments)
    if stopping is None:
        return 1
    nodes: list[ManagedNode] = []
    threads: list[threading.Thread] = []
    ended: list[str] = []
    try:
        before = udp_sockets()
        nodes += [make() for make in makes]
        require_loopback_alone(before)
        _require_names([node.get_fully_qualified_name() for node in nodes])
        for node in nodes:
            work = (node, make_executor(), stopping, ended)
            threads.append(threading.Thread(target=_work, args=work, name=node.get_name()))
            threads[-1].start()
        while not stopping.wait(SPIN_TIMEOUT):  # with a timeout, because this thread handles signals
            pass
    finally:
        if not stopping.is_set() or ended:
            stopping.set()
            end_within_grace()
        for thread in threads:
            thread.join(timeout=2 * END_GRACE)
        for node in nodes:
            node.destroy_node()
        rclpy.try_shutdown()
    for name in ended:
        print(f"error: {name} has ended unasked; the nodes of its process end with it", file=sys.stderr, flush=True)
    return 1 if ended else 0


def _work(node: ManagedNode, executor: SingleThreadedExecutor, stopping: threading.Event, ended: list[str]) -> None:
    """Run a node until `stopping` is set, then free it; if it ends unexpectedly, add its name to `ended`."""
    try:
        executor.add_node(node)
        spin(node, executor, stopping)
    finally:
        if not stopping.is_set():
            ended.append(node.get_name())
        stopping.set()
        node.finish()
        executor.shutdown(timeout_sec=1.0)


def _require_names(names: Sequence[str]) -> None:
    """Refuse two nodes of one name, which a remapping rule without a node name creates.

    Raises:
        UsageError: names it.
    """
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise UsageError(f"two nodes are called {twice[0]}: name each one, -r <executable>:__node:=<name>")


def main() -> int:
    """Run the nodes named in the arguments."""
    executables = list(takewhile(lambda word: word != "--ros-args", sys.argv[1:]))
    sys.setswitchinterval(SWITCH_INTERVAL)
    try:
        if not executables:
            raise UsageError("no node to run, expected executables such as perception_node instruction_node")
        classes = [node_class(executable) for executable in executables]
        prefer_process(min(one.niceness for one in classes))  # before the middleware creates its threads
        return run_nodes(classes)
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return 1


if __name__ == "__main__":
    raise SystemExit(main())
