"""Evaluates a policy in the real graph: nodes are processes, communication is DDS, the simulator checks success."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from pathlib import Path

from rclpy.node import Node
from tqdm import tqdm

from vla_ros.bringup.runner import GraphRunner
from vla_ros.client.observer import Observer
from vla_ros.client.operator_client import Operator
from vla_ros.client.stage import Stage
from vla_ros.envs.registry import find_world
from vla_ros.evaluation.rollout import RolloutResult
from vla_ros.language.commands import understand
from vla_ros.ros.transitions import GraphError

WALL_LIMIT = 90.0
"""Maximum wall time of one scene, s: a machine too slow to simulate is reported, not awaited."""

READY_LIMIT = 15.0
"""Maximum wall time of one preparation step, s."""


def evaluate_through_graph(
    robot: str,
    policy: str,
    device: str,
    seeds: Iterable[int],
    *,
    lockstep: bool = False,
    folder: str = "runs/eval",
    world: str = "pick",
    sentences: Sequence[str] | None = None,
    execution: str = "auto",
) -> Generator[RolloutResult, None, None]:
    """Run one episode per seed in one running graph; yield each result as the simulator reports it.

    The graph runs until the last scene has ended, or the generator is closed.

    Args:
        robot: Name or path of the robot contract.
        policy: Checkpoint.
        device: Device of the policy.
        seeds: One scene each.
        lockstep: Let simulation time wait for every node.
        folder: Folder for the nodes' logs.
        world: Name in the table of simulated worlds.
        sentences: Instruction of each scene, for its preparation and for the policy; "" (default) for the scene's own.
        execution: Execution mode of chunks, a `Mode` of `vla_ros.policies.execution`.

    Raises:
        GraphError: when the graph does not come up, or a required node crashes.
    """
    seeds = list(seeds)
    arguments = {
        "robot": robot,
        "policy": policy,
        "device": device,
        "seed": seeds[0],
        "lockstep": lockstep,
        "world": world,
        "execution": execution,
    }
    with GraphRunner(arguments, folder=Path(folder), progress=tqdm.write) as graph:
        player = ScenePlayer(graph.node, find_world(world).max_seconds)
        for number, seed in enumerate(seeds):
            result = player.play(seed, "" if sentences is None else sentences[number])
            if graph.failure:  # an episode with a failed graph is no result of the policy
                raise GraphError(graph.failure)
            yield result


class ScenePlayer:
    """Plays scenes: set up, arm, send the instruction, observe."""

    def __init__(self, node: Node, max_seconds: float) -> None:
        """Communicate through `node`, spun by another thread; a scene ends after `max_seconds` of simulation time."""
        self._max_seconds = max_seconds
        self._observer = Observer(node)
        self._operator = Operator(node, self._observer)
        self._stage = Stage(node, self._observer, self._operator)

    def wait_until_judged(self, timeout: float) -> bool:
        """Wait at most `timeout` s for a task status and a safety status, which show that everything is up."""
        observer = self._observer
        return observer.wait(lambda: bool(observer.task.instruction and observer.safety.state_name), timeout)

    def play(self, seed: int, wanted: str = "") -> RolloutResult:
        """Play the scene of a seed to its end; `wanted` is its instruction, by default the scene's own."""
        observer = self._observer
        sentence = self._stage.set_up(seed, wanted, READY_LIMIT)
        self._operator.arm(READY_LIMIT)
        observer.begin()
        self._operator.say(sentence, READY_LIMIT)
        target, picked = understand(sentence).name, ""

        def over() -> bool:
            nonlocal picked
            if observer.task.grasped_object and (observer.task.success or observer.task.grasped_object != target):
                picked = picked or str(observer.task.grasped_object)
            return observer.episode.success or observer.episode.seconds > self._max_seconds

        observer.wait(over, WALL_LIMIT)
        detail = str(observer.task.detail)
        if not observer.episode.success:
            detail += f"; safety layer: {observer.safety.state_name}, {observer.safety.sentence}"
        episode = observer.episode
        return RolloutResult(seed, sentence, target, episode.success, picked, episode.chunks, episode.seconds, detail)
