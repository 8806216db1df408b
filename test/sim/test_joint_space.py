"""A policy that commands joints moves the simulated arm through the real safety layer, in lock step."""

from __future__ import annotations

import numpy as np
import pytest

from vla_ros.actions.trajectory import ArmStart, ArmTrajectory, encode_chunk
from vla_ros.envs.registry import make_env
from vla_ros.robot.contract import RobotContract
from vla_ros.safety.parameters import load_parameters
from vla_ros.safety.reasons import Reason
from vla_ros.safety.supervisor import SafetySupervisor
from vla_ros.safety_bench.referee.referee import Referee
from vla_ros.types import ActionChunk, FloatArray, RobotState, SafetyDecision

SPEED, TOLERANCE = 0.4, 0.01
"""Of each joint on its way to the target, rad/s; and how near the simulated arm comes to it, rad."""


def scripted_chunk(contract: RobotContract, state: RobotState, target: FloatArray, sequence: int) -> ActionChunk:
    """Return a plan that turns every joint towards `target` (n,) rad at `SPEED`, and closes the gripper."""
    action, wide = contract.action, contract.gripper.max_opening
    times = action.period * np.arange(1, action.horizon + 1)[:, None]
    way = target - state.joint_positions
    rows = state.joint_positions + np.sign(way) * np.minimum(np.abs(way), SPEED * times)
    trajectory = ArmTrajectory(joint_positions=rows, openings=np.full(len(rows), 0.5 * wide))
    start = ArmStart(state.joint_positions, state.end_effector, wide)
    actions = encode_chunk({"arm": trajectory}, action, {"arm": start})
    return ActionChunk(actions, action.period, state.stamp, action.fingerprint, sequence=sequence)


@pytest.mark.parametrize(
    ("quantity", "lines"),
    [("joint_position", {"unit": "degrees"}), ("joint_delta", {"reference": "delta"}), ("joint_velocity", {})],
)
def test_the_simulated_arm_reaches_a_joint_target(quantity, lines, of_joints):
    contract = of_joints("panda", quantity, **lines)
    cell = make_env("pick", contract)
    cell.reset(3)
    supervisor = SafetySupervisor(contract, load_parameters(), lockstep=True)
    target = contract.joints.home + np.array([0.3, 0.1, -0.2, 0.2, 0.1, 0.2, -0.4])
    decisions: list[SafetyDecision] = []
    supervisor.receive_state(cell.state(), cell.time)
    assert supervisor.arm(cell.time) is Reason.OK
    for tick in range(300):
        state = cell.state()
        supervisor.receive_state(state, cell.time)
        if tick % 10 == 0:
            chunk = scripted_chunk(contract, state, target, tick + 1)
            start = ArmStart(state.joint_positions, state.end_effector, contract.gripper.max_opening)
            assert supervisor.receive_chunk(chunk, start, cell.time) is Reason.OK
        decisions.append(supervisor.tick(cell.time))
        cell.command(decisions[-1].joint_positions, decisions[-1].gripper_opening)
        cell.step(supervisor.period)
    assert np.abs(cell.state().joint_positions - target).max() < TOLERANCE
    assert cell.state().gripper_opening == pytest.approx(0.5 * contract.gripper.max_opening, abs=0.005)
    assert {decision.reason for decision in decisions[20:]} == {"ok"}
    commands = np.array([decision.joint_positions for decision in decisions])
    assert Referee(contract, supervisor.period).judge(commands).total == 0
