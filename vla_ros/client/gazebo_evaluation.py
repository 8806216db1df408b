"""Evaluates a policy in Gazebo: `ros2 launch` starts everything, the scene node resets scenes and checks success."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Generator, Iterable
from pathlib import Path

from vla_ros.bringup.runner import RosLink, graph_environment
from vla_ros.client.evaluation import ScenePlayer
from vla_ros.envs.registry import find_world
from vla_ros.evaluation.rollout import RolloutResult
from vla_ros.ros.dds.domains import claim_domain
from vla_ros.ros.transitions import GraphError

UP_LIMIT = 180.0
"""Maximum wall time until Gazebo, the controllers and the graph are up, s."""

END_GRACE = 15.0
"""Maximum wall time for an orderly shutdown, s."""

LAST_BYTES = 4000


class GazeboLaunch:
    """Launch of the Gazebo workcell in a separate process group, DDS domain and Gazebo partition."""

    def __init__(self, arguments: dict[str, str], domain: int, log: Path) -> None:
        """Start the launch.

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
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def check(self) -> None:
        """Check that the launch is running.

        Raises:
            GraphError: when it has ended; with the end of its log.
        """
        if self._process.poll() is not None:
            tail = self._log.read_bytes()[-LAST_BYTES:].decode(errors="replace")
            raise GraphError(f"the launch ended with {self._process.returncode}\n--- {self._log}\n{tail}")

    def close(self) -> None:
        """End the launch and everything it started.

        `ros2 launch` may have exited while the Gazebo server below its shell still runs, so the group is killed last.
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
    robot: str,
    policy: str,
    device: str,
    seeds: Iterable[int],
    *,
    folder: str = "runs/eval",
    controllers: str = "gz",
    execution: str = "auto",
) -> Generator[RolloutResult, None, None]:
    """Run one episode per seed in one running Gazebo; yield each result as the scene node reports it.

    Gazebo runs until the last scene has ended, or the generator is closed.

    Args:
        robot: Name or path of the robot contract.
        policy: Checkpoint.
        device: Device of the policy.
        seeds: One scene each.
        folder: Folder for the log of the launch.
        controllers: "gz" or "ros2_control".
        execution: Execution mode of chunks, a `Mode` of `vla_ros.policies.execution`.

    Raises:
        GraphError: when the launch does not come up or ends.
    """
    seeds = list(seeds)
    arguments = {
        "robot": robot,
        "policy": policy,
        "device": device,
        "seed": str(seeds[0]),
        "headless": "true",
        "controllers": controllers,
        "execution": execution,
    }
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
                launch.check()  # an episode whose launch has ended is no result of the policy
                yield result
        finally:
            link.close()
