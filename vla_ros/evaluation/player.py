"""What a process plays rollouts with: a cell, a policy, and who carries out its chunks."""

from __future__ import annotations

from dataclasses import dataclass

from vla_ros.envs.registry import make_env
from vla_ros.envs.tabletop.env import TabletopEnv
from vla_ros.evaluation.carriers import BareCarrier, Carrier, SafeCarrier
from vla_ros.policies.build import load_policy
from vla_ros.policies.protocol import Policy
from vla_ros.robot.contract import load_contract
from vla_ros.safety.parameters import load_parameters


@dataclass(frozen=True)
class SuiteOptions:
    """What is evaluated: `exchange` asks for each other object of a scene, too; `safety` off is to compare."""

    robot: str
    policy: str
    device: str = "cpu"
    safety: bool = True
    exchange: bool = False


@dataclass(frozen=True)
class Player:
    """See the module."""

    options: SuiteOptions
    cell: TabletopEnv
    policy: Policy
    carrier: Carrier


def make_player(options: SuiteOptions, world: str) -> Player:
    """Build all of it, for a process of its own: the policy computes in one thread.

    Raises:
        CheckpointError: when the policy cannot be loaded.
        SimulationError: when there is no such world.
    """
    import torch

    torch.set_num_threads(1)
    contract = load_contract(options.robot)
    carrier: Carrier = SafeCarrier(contract, load_parameters()) if options.safety else BareCarrier(contract)
    return Player(options, make_env(world, contract), load_policy(options.policy, contract, options.device), carrier)
