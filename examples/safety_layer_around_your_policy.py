"""The safety layer around a policy of your own, without ROS 2: every command is bounded and checked.

Run: python examples/safety_layer_around_your_policy.py
"""

import numpy as np

from vla_ros import ActionChunk, RobotState, SafetySupervisor, load_contract, load_parameters

contract, parameters = load_contract("panda"), load_parameters()
supervisor = SafetySupervisor(contract, parameters)
q, opening, now = np.array(contract.joints.home), contract.gripper.max_opening, 0.0
velocities = np.zeros_like(q)


def measure() -> RobotState:
    """Return what an ideal arm would report: here the last command, on your robot its joint states."""
    return RobotState(q, velocities, opening, supervisor.kinematics.forward(q), stamp=now)


def your_policy() -> ActionChunk:
    """Return a plan that leaves the workspace: 2 cm a row to the left, (horizon, 7) m, rotation vector, m."""
    rows = np.zeros((contract.action.horizon, contract.action.width))
    rows[:, 1], rows[:, -1] = 0.02 * np.arange(1, len(rows) + 1), contract.gripper.max_opening
    return ActionChunk(rows, contract.action.period, now, contract.action.fingerprint, sequence=round(now * 1e3))


for tick in range(1200):
    now += supervisor.period
    supervisor.receive_state(measure(), now)
    if not supervisor.armed:
        print("arming:", supervisor.arm(now).label)
    if tick % 10 == 0:
        supervisor.receive_chunk(your_policy(), supervisor.kinematics.forward(q), now)
    decision = supervisor.tick(now)
    if decision.joint_positions is not None:
        velocities = (decision.joint_positions - q) / supervisor.period
        q, opening = decision.joint_positions, decision.gripper_opening
    if tick % 200 == 199:
        tool = supervisor.kinematics.forward(q).position
        print(f"{now:.1f} s {decision.state.name} {decision.reason}: tool at y = {tool[1]:.3f} m, {decision.sentence}")
