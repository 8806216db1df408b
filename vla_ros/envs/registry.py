"""Table of simulated worlds: name, environment, and defaults for demonstrations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vla_ros.envs.collector import CollectionOptions, Collector, Learner
from vla_ros.envs.tabletop.config import PICK, TABLETOP, TabletopConfig
from vla_ros.envs.tabletop.env import TabletopEnv
from vla_ros.errors import SimulationError
from vla_ros.naming import expected_names
from vla_ros.robot.contract import RobotContract


@dataclass(frozen=True)
class World:
    """One simulated world.

    Attributes:
        config: Configuration of its environment.
        options: Default options for demonstrations.
        max_seconds: Simulation time after which an episode of a policy is aborted, s.
    """

    config: TabletopConfig
    options: CollectionOptions
    max_seconds: float


WORLDS: Mapping[str, World] = {
    "pick": World(PICK, CollectionOptions(), 12.0),
    "tabletop": World(TABLETOP, CollectionOptions(max_steps=110, disturbance=0.05), 20.0),
}


def find_world(name: str) -> World:
    """Return the world called `name`.

    Raises:
        SimulationError: when it does not exist, listing the existing ones.
    """
    if name not in WORLDS:
        raise SimulationError(f"no world '{name}'; {expected_names(name, sorted(WORLDS))}")
    return WORLDS[name]


def make_env(
    name: str, contract: RobotContract, camera_sizes: Mapping[str, tuple[int, int]] | None = None
) -> TabletopEnv:
    """Build a world's environment; `camera_sizes` maps a camera to (height, width), replacing the contract's.

    Raises:
        SimulationError: when the world does not exist, or the workcell of this robot cannot be built.
    """
    return TabletopEnv(contract, find_world(name).config, camera_sizes=camera_sizes)


def make_collector(
    name: str, contract: RobotContract, options: CollectionOptions, learner: Learner | None = None
) -> Collector:
    """Build a collector with its own environment.

    Raises:
        SimulationError: when the world does not exist, or the options do not fit it.
    """
    return Collector(make_env(name, contract), options, learner)
