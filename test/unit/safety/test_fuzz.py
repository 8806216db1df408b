"""Anything may come in, in any order: what goes out stays within all limits, by an independent referee.

`VLA_ROS_FUZZ_TICKS` makes it as long as one likes; the default is a few seconds.
"""

from __future__ import annotations

import contextlib
import os

import numpy as np
import pytest

from vla_ros.errors import VlaError
from vla_ros.types import Instruction, InstructionKind, Pose, SafetyState

TICKS = int(os.environ.get("VLA_ROS_FUZZ_TICKS", "400"))
NASTY = np.array([np.nan, np.inf, -np.inf, 1e300, -1e300, 5e-324, 0.0, -0.0, 1e9, 7.0])


class Gremlin:
    """Plays a policy, a driver and an operator that have lost their minds, now and then."""

    def __init__(self, rig, rng: np.random.Generator) -> None:
        self.rig, self.rng = rig, rng
        self.instruction = 0
        self.goal = rig.pose().position

    def play(self) -> None:
        rig, rng = self.rig, self.rng
        if rng.random() < 0.12:
            self.policy()
        if rng.random() < 0.002:
            self.operator()
        if rng.random() < 0.002:
            self.driver()
        if rng.random() < 0.002:
            rig.now += rng.choice([0.03, 0.05, 0.2, 3.0])
        if rng.random() < 0.001:
            rig.stamp += rng.choice([-0.5, 0.3, 3600.0])

    def policy(self) -> None:
        """Mostly plans that can be read, wild as they are: the arm has to be moving to be brought to break a limit."""
        rig, rng = self.rig, self.rng
        if rng.random() < 0.1:
            self.goal = rng.uniform([0.1, -0.7, -0.2], [1.0, 0.7, 0.9])
        rows = int(rng.integers(1, 13))
        way = np.linspace(rig.pose().position, self.goal, rows + 1)[1:]
        actions = rig.actions(way, rng.uniform(-0.02, 0.1, rows))
        actions[:, 3:6] += rng.normal(0.0, rng.choice([0.0, 0.01, 0.1, 1.0]), (rows, 3))
        changes = {"instruction_sequence": self.instruction, "trust": rng.choice([0.1, 1.0])}
        if rng.random() < 0.1:
            actions[:, :3] += rng.normal(0.0, rng.choice([0.03, 0.3, 1.0]), (rows, 3))
        start = rig.pose()
        if rng.random() < 0.02:  # the rest cannot be read at all
            actions[tuple(rng.integers(0, size) for size in actions.shape)] = rng.choice(NASTY)
            changes["observation_stamp"] = rig.stamp + rng.choice([-10.0, -0.3, 0.02, 1.0, np.nan])
            changes["instruction_sequence"] = int(rng.integers(0, 5))
            changes["trust"] = rng.choice([0.0, 1.0])
            start = Pose(start.position, rng.choice([0.0, 1.0, np.nan], 4))
        with contextlib.suppress(VlaError):  # a chunk that cannot even be built
            rig.supervisor.receive_chunk(rig.chunk(actions, **changes), start, rig.now)

    def operator(self) -> None:
        supervisor, now, rng = self.rig.supervisor, self.rig.now, self.rng
        kind = rng.integers(0, 6)
        if kind == 0:
            supervisor.press_estop(now)
        elif kind == 1:
            supervisor.disarm(now)
        elif kind == 2:
            for what in (InstructionKind(int(rng.integers(0, 2))), InstructionKind.TASK):
                self.instruction += 1
                supervisor.receive_instruction(Instruction("x", self.instruction, what, now), now)
        supervisor.release_estop(now)

    def driver(self) -> None:
        rig, rng = self.rig, self.rng
        q = np.array(rig.q)
        q[rng.integers(0, len(q))] = rng.choice(NASTY)
        with contextlib.suppress(VlaError):
            rig.supervisor.receive_state(rig.state(joint_positions=q), rig.now)
        with contextlib.suppress(VlaError):
            rig.supervisor.receive_state(rig.state(gripper_opening=rng.choice(NASTY)), rig.now)


@pytest.mark.parametrize("seed", range(4))
def test_no_input_brings_out_an_unsafe_command(rig, referee, contract, seed):
    rng = np.random.default_rng(seed)
    gremlin = Gremlin(rig, rng)
    rig.start()
    seen = set()
    openings = [rig.opening]
    for _ in range(TICKS):
        gremlin.play()
        decision = rig.tick()
        seen.add(decision.state)
        if decision.state is SafetyState.DISARMED:
            assert decision.joint_positions is None
        if decision.joint_positions is None:
            # An ideal arm keeps still between two sessions, so that one sequence of commands holds for all of them.
            rig.velocities = np.zeros(7)
            rig.supervisor.reset(rig.now)
            rig.supervisor.arm(rig.now)
        else:
            assert np.isfinite(decision.joint_velocities).all()
            openings.append(decision.gripper_opening)
            if decision.state is SafetyState.ESTOP and rng.random() < 0.1:
                rig.supervisor.reset(rig.now)
    referee.accept(rig.commands)
    gripper = contract.gripper
    assert np.isfinite(openings).all()
    assert (np.abs(np.diff(openings)) <= gripper.velocity * rig.supervisor.period + 1e-9).all()
    assert gripper.min_opening <= min(openings)
    assert max(openings) <= gripper.max_opening
    assert SafetyState.RUN in seen
    assert SafetyState.HOLD in seen
