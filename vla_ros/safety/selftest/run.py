"""Self-test of the safety layer with the actual contract and parameters, before it may be armed.

Simulates robot and policy for its own supervisor, for a second of simulated time: nothing here reaches a motor.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vla_ros.actions.decoding import PoseTrajectory, encode
from vla_ros.actions.trajectory import ArmStart, ArmTrajectory, encode_chunk
from vla_ros.errors import ChunkError
from vla_ros.robot.contract import RobotContract
from vla_ros.robot.kinematics import Kinematics
from vla_ros.safety.parameters import SafetyParameters
from vla_ros.safety.reasons import Reason
from vla_ros.safety.supervisor import SafetySupervisor
from vla_ros.types import ActionChunk, FloatArray, Pose, RobotState, SafetyDecision, SafetyState

ROUNDING = 1e-6


def run_selftest(contract: RobotContract, parameters: SafetyParameters) -> list[str]:
    """Return the failures, one sentence each; an empty list when all tests pass."""
    try:
        names = [arm.name for arm in contract.arms]
        if len(names) == 1:
            return _Trial(contract, parameters).failures()
        found = {name: _Trial(contract.led_by(name), parameters).failures() for name in names}
        return [f"{sentence} (arm '{name}')" for name, failed in found.items() for sentence in failed]
    except Exception as error:  # a layer that raises has failed
        return [f"the safety layer raised {type(error).__name__}: {error}"]


class _Trial:
    """An ideal arm at home, and a policy with excessive demands."""

    def __init__(self, contract: RobotContract, parameters: SafetyParameters) -> None:
        self._contract, self._parameters = contract, parameters
        self._supervisor = SafetySupervisor(contract, parameters)
        self._kinematics = Kinematics(contract)
        self._q = np.array(contract.joints.home)
        self._now = 1.0
        self._sequence = 0
        self._commands = [self._q]

    def failures(self) -> list[str]:
        for _ in range(self._supervisor.settling_ticks):
            self._sense()
        failed = []
        if (answer := self._supervisor.arm(self._now)) is not Reason.OK:
            return [f"the safety layer does not arm at home: {answer.label}"]
        if self._ticks(30, reach=5.0).state is not SafetyState.RUN:
            failed.append(f"valid chunks do not start the arm: {self._supervisor.reason.sentence}")
        answer = self._send(np.nan)
        if answer is not Reason.CHUNK_NOT_FINITE or self._tick().state is not SafetyState.HOLD:
            failed.append(f"a chunk with NaN is not answered by a hold but by '{answer.label}'")
        self._ticks(30, reach=-5.0)
        silent = round(self._parameters.timing.chunk_timeout / self._supervisor.period) + 20
        if self._ticks(silent).state is not SafetyState.HOLD:
            failed.append("a policy that falls silent is not answered by a hold")
        self._ticks(30, reach=5.0)
        self._supervisor.press_estop(self._now)
        if self._ticks(60, reach=5.0).state is not SafetyState.ESTOP or self._moves():
            failed.append("the emergency stop does not stop the arm")
        return failed + self._broken_limits()

    def _pose(self) -> Pose:
        return self._kinematics.forward(self._q)

    def _sense(self) -> None:
        self._now += self._supervisor.period
        still, wide = np.zeros_like(self._q), [arm.gripper.max_opening for arm in self._contract.arms]
        state = (
            RobotState.of_arms(self._q, still, wide, self._now)
            if len(wide) > 1
            else RobotState(self._q, still, wide[0], self._pose(), self._now)
        )
        self._supervisor.receive_state(state, self._now)

    def _send(self, reach: float) -> Reason:
        """Ask for a position `reach` m away along y, or for the last joint's limit on that side, immediately."""
        action, wide = self._contract.action, self._contract.gripper.max_opening
        start = ArmStart(self._q, self._pose(), wide)
        actions = self._to_limit(reach, start) if self._contract.commands_joints else self._to(reach, start.pose)
        self._sequence += 1
        try:
            chunk = ActionChunk(actions, action.period, self._now, action.fingerprint, sequence=self._sequence)
        except ChunkError:
            return self._supervisor.refuse_chunk(Reason.CHUNK_NOT_FINITE, self._now)
        return self._supervisor.receive_chunk(chunk, start, self._now)

    def _to(self, reach: float, start: Pose) -> FloatArray:
        action, rows = self._contract.action, self._contract.action.horizon
        target = np.tile(start.position + np.array([0.0, 1.0, 0.0]), (rows, 1))
        trajectory = PoseTrajectory(target, np.tile(start.quaternion, (rows, 1)), np.zeros(rows))
        actions: FloatArray = encode(trajectory, action, start, self._contract.gripper.max_opening)
        actions[:, 1] *= reach
        return actions

    def _to_limit(self, reach: float, start: ArmStart) -> FloatArray:
        action, joints = self._contract.action, self._contract.joints
        rows, last = (
            np.tile(self._q, (action.horizon, 1)),
            self._contract.joint_columns(self._contract.leading.name).stop,
        )
        rows[:, last - 1] = (joints.lower if reach < 0.0 else joints.upper)[last - 1]
        trajectories, starts = {}, {}
        for arm in self._contract.arms:
            own = self._contract.joint_columns(arm.name)
            trajectories[arm.name] = ArmTrajectory(joint_positions=rows[:, own], openings=np.zeros(len(rows)))
            starts[arm.name] = replace(start, joint_positions=self._q[own], max_opening=arm.gripper.max_opening)
        actions = encode_chunk(trajectories, action, starts)
        return actions if np.isfinite(reach) else np.full_like(actions, reach)

    def _tick(self) -> SafetyDecision:
        self._sense()
        decision = self._supervisor.tick(self._now)
        if decision.joint_positions is not None:
            self._q = np.array(decision.joint_positions)
        self._commands.append(self._q)
        return decision

    def _ticks(self, count: int, reach: float | None = None) -> SafetyDecision:
        for i in range(count):
            if reach is not None and i % 10 == 0:
                self._send(reach)
            decision = self._tick()
        return decision

    def _moves(self) -> bool:
        return bool((self._commands[-1] != self._commands[-2]).any())

    def _broken_limits(self) -> list[str]:
        """Check all commands by finite differences, independent of the code under test."""
        joints, period = self._contract.joints, self._supervisor.period
        q = np.array(self._commands)
        failed = []
        for name, order, limit in (
            ("velocity", 1, joints.velocity),
            ("acceleration", 2, joints.acceleration),
            ("jerk", 3, joints.jerk),
        ):
            share = np.abs(np.diff(q, n=order, axis=0)) / period**order / limit
            if not (share <= 1.0 + ROUNDING).all():
                failed.append(f"joint {name} reached {float(share.max()):.3f} of its limit")
        if not ((joints.lower <= q) & (q <= joints.upper)).all():
            failed.append("a joint left its position limits")
        return failed
