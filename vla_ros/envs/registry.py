"""The table of simulated worlds: a name, its cell, and who makes demonstrations in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vla_ros.envs.collector import CollectionOptions, Collector, Learner
from vla_ros.envs.mujoco.workcell import Cell
from vla_ros.envs.tabletop.collector import TabletopCollector
from vla_ros.envs.tabletop.env import TabletopCell
from vla_ros.errors import SimulationError
from vla_ros.naming import expected_names
from vla_ros.robot.contract import RobotContract


@dataclass(frozen=True)
class World:
    """One world: `cell` and `collector` classes, the `options` of its demonstrations, and when a rollout is given up.

    Attributes:
        cell: Simulates it.
        collector: Makes demonstrations in it.
        options: How they are made, unless asked otherwise.
        max_seconds: Simulation time after which a policy's episode is given up, s.
    """

    cell: type[Cell]
    collector: type[Collector]
    options: CollectionOptions
    max_seconds: float


WORLDS: Mapping[str, World] = {
    "pick": World(Cell, Collector, CollectionOptions(), 12.0),
    "tabletop": World(TabletopCell, TabletopCollector, CollectionOptions(max_steps=110, disturbance=0.05), 20.0),
}


def find_world(name: str) -> World:
    """Return the world called `name`.

    Raises:
        SimulationError: when there is none, listing those there are.
    """
    if name not in WORLDS:
        raise SimulationError(f"no world '{name}'; {expected_names(name, sorted(WORLDS))}")
    return WORLDS[name]


def make_cell(name: str, contract: RobotContract, camera_sizes: Mapping[str, tuple[int, int]] | None = None) -> Cell:
    """Build the cell of a world."""
    return find_world(name).cell(contract, camera_sizes=camera_sizes)


def make_collector(
    name: str, contract: RobotContract, options: CollectionOptions, learner: Learner | None = None
) -> Collector:
    """Build a collector of a world, with a cell of its own."""
    return find_world(name).collector(contract, options, learner)
