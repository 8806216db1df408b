"""From a camera frame to the robot command that it caused, through the real graph, every frame counted.

    .venv/bin/python benchmarks/camera_to_command.py --frames 300 --json

The simulator renders both cameras at 640x480 and 30 Hz; the shipped policy works on every observation. This process
listens from outside: a frame counts from its arrival here to the second command that arrives after its action chunk
did. The first one may have been computed before the chunk was there, so the figure is an upper bound by up to one tick.
"""

from __future__ import annotations

import argparse
import json
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

WIDTH, HEIGHT, RATE_HZ = 640, 480, 30.0
FULL_SECONDS = 60.0


class _Listener:
    """Notes when each thing arrived, by the steady clock of this process."""

    def __init__(self, node: Any, contract: Any, first_camera: str) -> None:
        from sensor_msgs.msg import Image
        from trajectory_msgs.msg import JointTrajectory

        from vla_ros.msg import ActionChunk, Observation
        from vla_ros.nodes.qos import qos

        self._lock = threading.Lock()
        self.frames: dict[str, dict[int, float]] = {c.name: {} for c in contract.cameras}
        self.observations: dict[int, float] = {}
        self.chunks: dict[int, float] = {}
        self.latencies: list[float] = []
        self._waiting: list[tuple[float, int]] = []
        self._first = first_camera
        for camera in contract.cameras:
            node.create_subscription(
                Image, camera.topic, lambda m, name=camera.name: self._frame(name, m), qos("camera")
            )
        node.create_subscription(Observation, "/vla/observation", self._observation, qos("observation"))
        node.create_subscription(ActionChunk, "/vla/action_chunk", self._chunk, qos("action_chunk"))
        node.create_subscription(JointTrajectory, contract.controllers.arm_topic, self._command, qos("arm_command"))

    def _frame(self, camera: str, message: Any) -> None:
        self.frames[camera].setdefault(_key(message.header.stamp), time.monotonic())

    def _observation(self, message: Any) -> None:
        self.observations.setdefault(_key(message.header.stamp), time.monotonic())

    def _chunk(self, message: Any) -> None:
        key = _key(message.observation_stamp)
        if key not in self.chunks:
            self.chunks[key] = time.monotonic()
            seen = self.frames[self._first].get(key)
            if seen is not None:
                self._waiting.append((seen, 0))

    def _command(self, message: Any) -> None:
        del message
        now, waiting = time.monotonic(), []
        for seen, commands in self._waiting:
            if commands >= 1:
                self.latencies.append(now - seen)
            else:
                waiting.append((seen, commands + 1))
        self._waiting = waiting


def _key(stamp: Any) -> int:
    """Return a stamp in nanoseconds."""
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)


def _gaps(keys: list[int]) -> int:
    """Return how many frames are missing between the first and the last, at the nominal rate."""
    if len(keys) < 2:
        return 0
    return round((max(keys) - min(keys)) / 1e9 * RATE_HZ) + 1 - len(keys)


def main() -> int:
    """Run the graph, measure, print one JSON object; 0 when no frame was lost."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--policy", default="checkpoints/pick")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"))
    parser.add_argument("--json", action="store_true", help="accepted for symmetry: the last line is always JSON")
    args = parser.parse_args()
    from dataclasses import replace

    from vla_ros.nodes.graph import Graph, load_graph
    from vla_ros.nodes.observer import Observer
    from vla_ros.nodes.operator_client import Operator
    from vla_ros.nodes.runner import GraphRunner
    from vla_ros.robot.contract import load_contract

    contract = load_contract("panda")
    extra = {
        "sim_node": {"camera_width": WIDTH, "camera_height": HEIGHT, "camera_rate_hz": RATE_HZ},
        "perception_node": {f"{c.name}.{side}": value for c in contract.cameras
                            for side, value in (("width", WIDTH), ("height", HEIGHT))},
    }  # fmt: skip
    graph = load_graph()
    nodes = tuple(replace(n, parameters={**n.parameters, **extra.get(n.name, {})}) for n in graph.nodes)
    arguments = {"policy": args.policy, "device": args.device, "seed": 1}
    with GraphRunner(arguments, graph=Graph(graph.arguments, nodes), folder=args.out, progress=print) as runner:
        listener = _Listener(runner.node, contract, contract.cameras[0].name)
        observer = Observer(runner.node, contract)
        operator = Operator(runner.node, observer)
        observer.wait(lambda: bool(observer.task.instruction), 20.0)
        operator.arm(20.0)
        operator.say(observer.task.instruction, 20.0)
        observer.wait(lambda: len(listener.latencies) >= args.frames, FULL_SECONDS)
        safety = observer.safety
    figures = _figures(listener, safety)
    _draw(listener, args.out / "camera_to_command.png")
    print(json.dumps(figures))
    return 0 if figures["frames_lost"] == 0 else 1


def _figures(listener: _Listener, safety: Any) -> dict[str, Any]:
    values = np.array(listener.latencies) * 1e3
    frames = {name: sorted(keys) for name, keys in listener.frames.items()}
    begin = min(listener.chunks, default=0)
    end = max(listener.chunks, default=0)
    served = [key for key in listener.observations if begin <= key <= end]
    return {
        "width": WIDTH, "height": HEIGHT, "rate_hz": RATE_HZ,
        "frames": {name: len(keys) for name, keys in frames.items()},
        "frames_lost": sum(_gaps(keys) for keys in frames.values()),
        "observations": len(listener.observations),
        "observations_lost": _gaps(sorted(listener.observations)),
        "observations_with_a_task": len(served),
        "chunks": len(listener.chunks),
        "frame_to_command": len(values),
        "frame_to_command_ms_p50": round(float(np.percentile(values, 50)), 2) if len(values) else None,
        "frame_to_command_ms_p99": round(float(np.percentile(values, 99)), 2) if len(values) else None,
        "missed_ticks": None if safety is None else int(safety.missed_ticks),
        "ticks": None if safety is None else int(safety.tick),
    }  # fmt: skip


def _draw(listener: _Listener, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    path.parent.mkdir(parents=True, exist_ok=True)
    figure, axes = plt.subplots(figsize=(8, 4), dpi=110)
    axes.hist(np.array(listener.latencies) * 1e3, bins=60)
    axes.set(xlabel="camera frame to robot command, ms", ylabel="frames",
             title=f"{WIDTH}x{HEIGHT} at {RATE_HZ:.0f} Hz, {len(listener.latencies)} frames")  # fmt: skip
    figure.tight_layout()
    figure.savefig(path)


if __name__ == "__main__":
    raise SystemExit(main())
