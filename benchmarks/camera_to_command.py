"""Measures the latency from each camera frame to the robot command that it caused, through the real nodes.

    .venv/bin/python benchmarks/camera_to_command.py --frames 300

A robot stand-in, in a process of its own, publishes the images of two cameras at 640x480 and 30 Hz and joint states at
100 Hz, and follows every command at once; its images are rendered small and enlarged, so that rendering costs almost
nothing. Between its images and its commands are perception_node, policy_node and safety_node with the shipped policy.

Times are on one steady clock, from publishing the frame to the arrival of the command. The safety node processes a
chunk in its next tick; which of the two commands around that tick carries it is not visible from outside, so the first
command after the chunk is the lower bound and the second the upper one. The upper bound is the reported latency.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

WIDTH, HEIGHT, RATE_HZ = 640, 480, 30.0
STATE_HZ = 100.0
RENDERED = 4
"""Factor by which the images are rendered smaller, in each direction."""

SETTLE_S = 2.0
"""Duration of the warm-up, s; its frames are not counted."""

ARM_S = 30.0
LATE_S = 2.0
"""Time to wait for the last frame's command, s."""


class StandIn:
    """Stand-in for the robot and its cameras. Stamps are readings of the steady clock."""

    def __init__(self, seed: int) -> None:
        import rclpy
        from rclpy.executors import SingleThreadedExecutor
        from sensor_msgs.msg import Image, JointState
        from trajectory_msgs.msg import JointTrajectory

        from vla_ros.msg import ActionChunk, Observation
        from vla_ros.robot.contract import load_contract
        from vla_ros.ros.qos import qos

        self.contract = load_contract("panda")
        self.lock = threading.Lock()
        self.joints = self.contract.joints.home.copy()
        self.opening = self.contract.gripper.max_opening
        self.frames: dict[int, float] = {}
        self.arrived: dict[str, dict[int, float]] = {"observation": {}, "chunk": {}, "first": {}, "second": {}}
        self.waiting: list[tuple[int, str]] = []
        self.seed, self.stopping = seed, False
        rclpy.init()
        self.node = rclpy.create_node("stand_in")
        self.cameras = {
            c.name: self.node.create_publisher(Image, c.topic, qos("camera_out")) for c in self.contract.cameras
        }
        topics = self.contract.controllers
        self.states = self.node.create_publisher(JointState, topics.joint_states_topic, qos("joint_states_out"))
        listen = self.node.create_subscription
        listen(Observation, "/vla/observation", self._on_observation, qos("observation"))
        listen(ActionChunk, "/vla/action_chunk", self._on_chunk, qos("action_chunk"))
        listen(JointTrajectory, topics.arm_topic, self._on_arm, qos("arm_command"))
        listen(JointTrajectory, topics.gripper_topic, self._on_gripper, qos("gripper_command"))
        self.executor = SingleThreadedExecutor()
        self.executor.add_node(self.node)

    def _on_observation(self, message: Any) -> None:
        self.arrived["observation"].setdefault(_key(message.header.stamp), time.monotonic())

    def _on_chunk(self, message: Any) -> None:
        key = _key(message.observation_stamp)
        if key not in self.arrived["chunk"]:
            self.arrived["chunk"][key] = time.monotonic()
            self.waiting.append((key, "first"))

    def _on_arm(self, message: Any) -> None:
        from vla_ros.ros.messages.commands import commanded_point

        now = time.monotonic()
        for key, place in self.waiting:
            self.arrived[place][key] = now
        self.waiting = [(key, "second") for key, place in self.waiting if place == "first"]
        with self.lock:
            self.joints = np.array(commanded_point(message).positions)

    def _on_gripper(self, message: Any) -> None:
        with self.lock:
            self.opening = float(sum(message.points[0].positions))

    def _publish_states(self) -> None:
        from vla_ros.ros.messages.conversions import robot_state_to_joint_state
        from vla_ros.types import Pose, RobotState

        nowhere, before = Pose(np.zeros(3), [0.0, 0.0, 0.0, 1.0]), self.joints
        for now in _ticks(STATE_HZ, lambda: self.stopping):
            with self.lock:
                joints, opening = self.joints, self.opening
            state = RobotState(joints, (joints - before) * STATE_HZ, opening, nowhere, now)
            self.states.publish(robot_state_to_joint_state(state, self.contract))
            before = joints

    def _publish_frames(self) -> None:
        import cv2

        from vla_ros.envs.registry import make_env
        from vla_ros.ros.messages.conversions import array_to_image, seconds_to_stamp

        import mujoco  # isort: skip  (after the cell, which chooses the OpenGL back end)

        small = (HEIGHT // RENDERED, WIDTH // RENDERED)
        cell = make_env("pick", self.contract, camera_sizes={c.name: small for c in self.contract.cameras})
        cell.reset(self.seed)
        print(json.dumps({"instruction": cell.instruction}), flush=True)
        arm = [cell.model.joint(name).qposadr[0] for name in self.contract.joints.names]
        fingers = [cell.model.joint(name).qposadr[0] for name in self.contract.gripper.names]
        for _ in _ticks(RATE_HZ, lambda: self.stopping):
            with self.lock:
                cell.data.qpos[arm], cell.data.qpos[fingers] = self.joints, self.opening / 2.0
            mujoco.mj_kinematics(cell.model, cell.data)
            mujoco.mj_camlight(cell.model, cell.data)
            pictures = {name: cv2.resize(cell.render(name), (WIDTH, HEIGHT)) for name in self.cameras}
            now = time.monotonic()
            self.frames[_key(seconds_to_stamp(now))] = now
            for name, publisher in self.cameras.items():
                publisher.publish(array_to_image(pictures[name], now, self.contract.camera(name).frame))

    def run(self) -> dict[str, Any]:
        """Run until a line arrives on stdin, and return the recorded times."""
        import rclpy

        end = time.monotonic() + ARM_S
        while not all(camera.get_subscription_count() for camera in self.cameras.values()) and time.monotonic() < end:
            time.sleep(0.01)
        threads = [
            threading.Thread(target=work, daemon=True)
            for work in (self._publish_frames, self._publish_states, self.executor.spin)
        ]
        for thread in threads:
            thread.start()
        begin = float(sys.stdin.readline())
        sys.stdin.readline()
        self.stopping = True
        threads[0].join(5.0)
        time.sleep(LATE_S)  # joint states have ended, too: the arm holds, and messages in transit arrive
        self.executor.shutdown(timeout_sec=2.0)
        for thread in threads:
            thread.join(5.0)
        self.node.destroy_node()
        rclpy.shutdown()
        frames = {key: sent for key, sent in self.frames.items() if sent >= begin}
        return {
            "late": _late(list(frames.values())),
            "frames_since_start": len(self.frames),
            "frames": _joined(frames, self.arrived),
        }


def _joined(frames: dict[int, float], arrived: dict[str, dict[int, float]]) -> list[dict[str, float]]:
    """Return the delay from each frame to each later message, ms."""
    return [
        {what: 1e3 * (times[key] - sent) for what, times in arrived.items() if key in times}
        for key, sent in sorted(frames.items())
    ]


def _ticks(rate: float, stopped: Any) -> Any:
    """Yield readings of the steady clock at `rate`; a late tick shortens the next wait, none is skipped."""
    due = time.monotonic()
    while not stopped():
        yield time.monotonic()
        due = max(due + 1.0 / rate, time.monotonic() - 1.0 / rate)
        time.sleep(max(0.0, due - time.monotonic()))


def _late(sent: list[float]) -> int:
    """Return the number of frames over half a period late: there the stand-in, not the graph, was too slow."""
    return int((np.diff(sorted(sent)) > 1.5 / RATE_HZ).sum()) if len(sent) > 1 else 0


def _key(stamp: Any) -> int:
    """Return a stamp in nanoseconds."""
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run the graph with the stand-in and return the metrics."""
    from dataclasses import replace

    from vla_ros.bringup.runner import GraphRunner, graph_environment
    from vla_ros.client.observer import Observer
    from vla_ros.client.operator_client import Operator
    from vla_ros.robot.contract import load_contract
    from vla_ros.ros.graph.description import Graph, load_graph

    contract, graph = load_contract("panda"), load_graph()
    size = {f"{c.name}.{side}": px for c in contract.cameras for side, px in (("width", WIDTH), ("height", HEIGHT))}
    nodes = tuple(
        replace(n, parameters={**n.parameters, **(size if n.name == "perception_node" else {})}) for n in graph.nodes
    )
    wanted = {"policy": arguments.policy, "device": arguments.device, "use_sim_time": False}
    with GraphRunner(
        wanted, graph=Graph(graph.arguments, nodes), simulation=False, folder=arguments.out, progress=print
    ) as runner:
        command = [sys.executable, __file__, "--stand-in", "--seed", str(arguments.seed)]
        process = subprocess.Popen(
            command, env=graph_environment(runner.domain), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            instruction = json.loads(process.stdout.readline())["instruction"]
            counts = _PerceptionCounts(runner.node)
            observer = Observer(runner.node)
            operator = Operator(runner.node, observer)
            operator.arm(ARM_S)
            operator.say(instruction, ARM_S)
            observer.wait(lambda: observer.episode.chunks > 0, ARM_S)
            time.sleep(SETTLE_S)
            observer.begin()
            process.stdin.write(f"{time.monotonic()}\n")
            process.stdin.flush()
            time.sleep(arguments.frames / RATE_HZ)
            figures = observer.figures(lockstep=False)
            states = sorted({f"{state}: {reason}" for state, reason in observer.episode.states})
            seen = json.loads(process.communicate("end\n", timeout=60.0)[0].splitlines()[-1])
            images = counts.last(seen["frames_since_start"])
        finally:
            process.kill()
            process.wait()
    return _summary(seen, figures, states, images)


class _PerceptionCounts:
    """Counters of perception_node, from its diagnostics."""

    def __init__(self, node: Any) -> None:
        from diagnostic_msgs.msg import DiagnosticArray

        from vla_ros.ros.qos import qos

        self._values: dict[str, dict[str, str]] = {}
        node.create_subscription(DiagnosticArray, "/diagnostics", self._take, qos("diagnostics"))

    def _take(self, message: Any) -> None:
        for status in message.status:
            self._values[status.name] = {pair.key: pair.value for pair in status.values}

    def last(self, sent: int) -> dict[str, Any]:
        """Return what became of the `sent` images of each camera, after the last has arrived."""
        time.sleep(2.0)  # two reports
        figures: dict[str, Any] = {"images_sent": {}, "images_lost_in_transport": {}, "images_overtaken": {}}
        for name, values in self._values.items():
            if ": camera " in name:
                camera, overtaken = name.split()[-1], int(values["overwritten"])
                figures["images_sent"][camera] = sent
                figures["images_overtaken"][camera] = overtaken  # replaced by a newer one before the worker was free
                figures["images_lost_in_transport"][camera] = sent - int(values["images"]) - overtaken
        return figures


def _summary(
    seen: dict[str, Any], figures: dict[str, Any], states: list[str], images: dict[str, Any]
) -> dict[str, Any]:
    frames = seen["frames"]
    column = {
        what: [frame[what] for frame in frames if what in frame] for what in ("observation", "chunk", "first", "second")
    }
    return {
        "width": WIDTH,
        "height": HEIGHT,
        "rate_hz": RATE_HZ,
        "cameras": 2,
        "frames_sent": len(frames),
        "frames_sent_late": seen["late"],
        "frames_observed": len(column["observation"]),
        "frames_overtaken_in_perception": len(frames) - len(column["observation"]),
        "frames_overtaken_in_policy": len(column["observation"]) - len(column["chunk"]),
        "frames_to_command": len(column["second"]),
        **{
            f"{name}_ms_{label}": _percentile(column[what], percent)
            for what, name in (
                ("observation", "frame_to_observation"),
                ("chunk", "frame_to_chunk"),
                ("first", "frame_to_command_lower"),
                ("second", "frame_to_command"),
            )
            for label, percent in (("p50", 50), ("p99", 99))
        },
        "policy_ms_p50": figures["policy_ms_p50"],
        "missed_ticks": figures["missed_ticks"],
        "command_rate_hz": figures["command_rate_hz"],
        "safety_states": states,
        "since_start": images,
        "latencies_ms": column["second"],
    }


def _percentile(values: list[float], percent: float) -> float | None:
    return round(float(np.percentile(values, percent)), 2) if values else None


def draw(figures: dict[str, Any], path: Path) -> None:
    """Plot the latency of every frame."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 4), dpi=110)
    axes.hist(figures["latencies_ms"], bins=60)
    axes.set(
        xlabel="camera frame to robot command, ms",
        ylabel="frames",
        title=f"Two cameras, {WIDTH}x{HEIGHT} at {RATE_HZ:.0f} Hz: {figures['frames_to_command']} of "
        f"{figures['frames_sent']} frames, p50 {figures['frame_to_command_ms_p50']} ms, "
        f"p99 {figures['frame_to_command_ms_p99']} ms",
    )
    axes.title.set_fontsize(10)
    figure.tight_layout()
    figure.savefig(path)


def main() -> int:
    """Measure, plot, and print one JSON object last; return 0 if no image was lost in transport."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=300, help="frames of each camera to count (%(default)s)")
    parser.add_argument("--policy", default="checkpoints/pick", help="folder of a checkpoint (%(default)s)")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seed", type=int, default=1, help="decides the scene (%(default)s)")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"), help="for the picture and the logs")
    parser.add_argument("--json", action="store_true", help="accepted for symmetry: the last line is always JSON")
    parser.add_argument("--stand-in", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.stand_in:
        from vla_ros.ros.dds.large_buffers import retain_large_buffers

        retain_large_buffers()
        print(json.dumps(StandIn(arguments.seed).run()), flush=True)
        return 0
    arguments.out.mkdir(parents=True, exist_ok=True)
    figures = measure(arguments)
    draw(figures, arguments.out / "camera_to_command.png")
    print(json.dumps({name: value for name, value in figures.items() if name != "latencies_ms"}))
    return 0 if not any(figures["since_start"]["images_lost_in_transport"].values()) else 1


if __name__ == "__main__":
    raise SystemExit(main())
