"""Evaluates a policy in Gazebo: `ros2 launch` brings everything up, the scene node resets and judges."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Generator, Iterable
from pathlib import Path

from vla_ros.envs.registry import find_world
from vla_ros.evaluation.rollout import RolloutResult
from vla_ros.nodes.dds_domains import claim_domain
from vla_ros.nodes.evaluation import ScenePlayer
from vla_ros.nodes.runner import RosLink, graph_environment
from vla_ros.nodes.transitions import GraphError

UP_LIMIT = 180.0
"""Wall time until Gazebo, the controllers and the graph are up, s."""

END_GRACE = 15.0
"""Wall time for an orderly end, s."""

LAST_BYTES = 4000


class GazeboLaunch:
    """The launch of the Gazebo cell as a process group of its own, in a domain and a Gazebo partition of its own."""

    def __init__(self, arguments: dict[str, str], domain: int, log: Path) -> None:
        """Start it.

        Raises:
            GraphError: when there is no `ros2` command.
        """
        command = shutil.which("ros2")
        if command is None:
            raise GraphError("there is no command 'ros2': Gazebo runs with a full ROS 2; source its setup.bash")
        log.parent.mkdir(parents=True, exist_ok=True)
        self._log = log
        environment = graph_environment(domain) | {"GZ_PARTITION": f"vla_ros_{domain}"}
        words = [f"{name}:={value}" for name, value in arguments.items()]
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                [command, "launch", "vla_ros", "simulation_gazebo.launch.py", *words],
                env=environment, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip

    def check(self) -> None:
        """Raise when it has ended.

        Raises:
            GraphError: with the end of its log.
        """
        if self._process.poll() is not None:
            tail = self._log.read_bytes()[-LAST_BYTES:].decode(errors="replace")
            raise GraphError(f"the launch ended with {self._process.returncode}\n--- {self._log}\n{tail}")

    def close(self) -> None:
        """End the launch and everything that it started.

        `ros2 launch` can be gone while the Gazebo server below its shell still runs, so the group is ended last.
        """
        for number, grace in ((signal.SIGINT, END_GRACE), (signal.SIGTERM, 3.0), (signal.SIGKILL, 3.0)):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=grace)
                break
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)


def evaluate_in_gazebo(
    robot: str, policy: str, device: str, seeds: Iterable[int], *, folder: str = "runs/eval", controllers: str = "gz",
    execution: str = "auto",
) -> Generator[RolloutResult, None, None]:  # fmt: skip
    """Run one episode per seed in one running Gazebo; yield each result as the scene node reports it.

    Gazebo runs until the last scene has ended, or the generator is closed.

    Args:
        robot: Name or path of the robot contract.
        policy: Checkpoint.
        device: Where it computes.
        seeds: One scene each.
        folder: Where the log of the launch goes.
        controllers: "gz" or "ros2_control".
        execution: How chunks follow each other: a `Mode` of `vla_ros.policies.execution`.

    Raises:
        GraphError: when the launch does not come up or ends.
    """
    seeds = list(seeds)
    arguments = {"robot": robot, "policy": policy, "device": device, "seed": str(seeds[0]), "headless": "true",
                 "controllers": controllers, "execution": execution}  # fmt: skip
    domain, claim = claim_domain()
    with claim, contextlib.closing(GazeboLaunch(arguments, domain, Path(folder) / "log" / "gazebo.log")) as launch:
        link = RosLink("vla_ros_evaluation", domain)
        try:
            player = ScenePlayer(link.node, find_world("pick").max_seconds)
            end = time.monotonic() + UP_LIMIT
            while not player.wait_until_judged(1.0):
                launch.check()
                if time.monotonic() > end:
                    raise GraphError(f"nothing judges in Gazebo after {UP_LIMIT:.0f} s; see {folder}/log/gazebo.log")
            for seed in seeds:
                result = player.play(seed)
                launch.check()  # what happened when it had ended is no result of the policy
                yield result
        finally:
            link.close()
