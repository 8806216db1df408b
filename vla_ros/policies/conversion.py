"""Converts chunks from a policy's action space to that of a robot's contract: columns, rate and horizon."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from vla_ros.actions.groups import ActionGroup
from vla_ros.actions.space import ActionSpace
from vla_ros.errors import ChunkError
from vla_ros.policies.protocol import Policy, Prefix, PrefixPolicy, accepts_prefix, close_policy
from vla_ros.robot.contract import RobotContract
from vla_ros.types import ActionChunk, FloatArray, Instruction, Observation, RobotState

if TYPE_CHECKING:
    from vla_ros.actions.trajectory import ArmStart

RATE_TOLERANCE = 1e-6
"""Relative difference up to which two rates are equal."""


class Converter:
    """Converts rows from one action space to another: columns, and rate by resampling the motion."""

    def __init__(self, source: ActionSpace, target: ActionSpace, contract: RobotContract) -> None:
        """Check that the conversion is possible.

        Args:
            source: Action space of the input rows.
            target: Action space of the output rows.
            contract: Contract of the robot that both are for.

        Raises:
            ChunkError: when it is not, because of different arms, grippers, or joints versus tool; it names the reason.
        """
        self.source, self.target, self._contract = source, target, contract
        self._same = source.groups == target.groups
        self._same_rate = abs(source.rate_hz - target.rate_hz) <= RATE_TOLERANCE * target.rate_hz
        if not self._same and (wrong := _in_the_way(source, target)):
            raise ChunkError("actions of the policy cannot be brought into the robot's: " + "; ".join(wrong))

    def __call__(self, actions: FloatArray, state: RobotState) -> FloatArray:
        """Return rows (h, width) of the target; those beyond its horizon are dropped.

        Args:
            actions: (h, width) of the source.
            state: State at the chunk's observation.

        Raises:
            ChunkError: when a rotation is degenerate.
        """
        rows = actions[: self.target.horizon] if self._same_rate else actions
        if self._same and self._same_rate:
            return rows
        # These import pinocchio, which a policy in the robot's own action space does not need.
        from vla_ros.actions.resampling import rows_at, rows_within
        from vla_ros.actions.trajectory import decode_chunk, encode_chunk

        starts = arm_starts(state, self._contract)
        theirs = dict(zip(self.source.arms, starts.values(), strict=True))
        mine = dict(zip(self.target.arms, starts.values(), strict=True))
        found = decode_chunk(rows, self.source, theirs)
        if not self._same_rate:
            count, step = rows_within(len(rows), self.source, self.target), self.target.period / self.source.period
            found = {arm: rows_at(one, theirs[arm], 0.0, step, count) for arm, one in found.items()}
        wanted = dict(zip(self.target.arms, (found[arm] for arm in self.source.arms), strict=True))
        return encode_chunk(wanted, self.target, mine)


def arm_starts(state: RobotState, contract: RobotContract) -> Mapping[str, ArmStart]:
    """Return each arm's start for decoding a chunk, from the state at its observation."""
    from vla_ros.actions.trajectory import ArmStart

    if len(contract.arms) == 1:
        arm = contract.arms[0]
        return {arm.name: ArmStart(state.joint_positions, state.end_effector, arm.gripper.max_opening)}
    return {
        arm.name: ArmStart(
            state.joint_positions[contract.joint_columns(arm.name)], state.end_effector, arm.gripper.max_opening
        )
        for arm in contract.arms
    }


def _in_the_way(space: ActionSpace, mine: ActionSpace) -> list[str]:
    if len(space.arms) != 1 or len(mine.arms) != 1:
        return [f"arms: {list(space.arms)} of the policy, {list(mine.arms)} of the robot"]
    theirs, own = space.only_motion, mine.only_motion
    wrong = []
    if theirs.quantity.of_joints is not own.quantity.of_joints:
        wrong.append(f"'{theirs.name}' of the policy, '{own.name}' of the robot: joints are no tool")
    if (space.only_gripper is None) is not (mine.only_gripper is None):
        wrong.append(f"gripper: {_named(space.only_gripper)} of the policy, {_named(mine.only_gripper)} of the robot")
    return wrong


def _named(group: ActionGroup | None) -> str:
    return "none" if group is None else f"'{group.name}'"


class ResampledPolicy:
    """A policy at the rate and horizon of a robot's contract; implements the `Policy` protocol."""

    def __init__(self, policy: Policy, contract: RobotContract) -> None:
        """Wrap `policy`.

        Raises:
            ChunkError: when its actions cannot be converted to the contract's.
        """
        self.policy, self._contract = policy, contract
        self._to_robot = Converter(policy.specification, contract.action, contract)
        self._to_policy = Converter(contract.action, policy.specification, contract)
        self.specification = contract.action

    @property
    def name(self) -> str:
        """Name of the policy."""
        return self.policy.name

    @property
    def device(self) -> str:
        """Device of the policy."""
        return self.policy.device

    @property
    def image_sizes(self) -> Mapping[str, tuple[int, int]]:
        """Camera name to (height, width), px."""
        return self.policy.image_sizes

    @property
    def accepts_prefix(self) -> bool:
        """Whether it can continue from a prefix."""
        return accepts_prefix(self.policy)

    def fork(self) -> ResampledPolicy:
        """Return a copy with separate memory if the policy can be forked, else this one."""
        fork = getattr(self.policy, "fork", None)
        return ResampledPolicy(fork(), self._contract) if callable(fork) else self

    def reset(self, instruction: Instruction) -> None:
        """Start a new instruction; raises what the policy raises."""
        self.policy.reset(instruction)

    def predict(self, observation: Observation) -> ActionChunk:
        """Return the policy's chunk at the robot's rate; raises what the policy raises."""
        return self._converted(self.policy.predict(observation), observation)

    def predict_from(self, observation: Observation, prefix: Prefix) -> ActionChunk:
        """Return a chunk that continues from `prefix` (at the robot's rate); raises what the policy raises."""
        policy, source, target = self.policy, self.policy.specification, self.specification
        if not isinstance(policy, PrefixPolicy):
            raise ChunkError(f"policy '{policy.name}' does not plan on from a prefix")
        rows = self._to_policy(prefix.actions, observation.state)
        ends = (np.arange(len(rows)) + 1.0) * source.period / target.period
        held_by = np.clip(np.ceil(ends - RATE_TOLERANCE).astype(int) - 1, 0, len(prefix.weights) - 1)
        return self._converted(policy.predict_from(observation, Prefix(rows, prefix.weights[held_by])), observation)

    def close(self) -> None:
        """Close the policy."""
        close_policy(self.policy)

    def _converted(self, chunk: ActionChunk, observation: Observation) -> ActionChunk:
        if chunk.specification != self.policy.specification.fingerprint:
            return chunk  # of another action space than declared: the chunk gate rejects it
        return replace(
            chunk,
            actions=self._to_robot(chunk.actions, observation.state),
            period=self.specification.period,
            specification=self.specification.fingerprint,
        )
