"""From a policy server's answer to rows in the robot's own convention; what does not fit is refused, and said why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from vla_ros.actions.groups import ActionGroup
from vla_ros.actions.space import ActionSpace
from vla_ros.errors import ChunkError, InstructionError, LinkError, ServerError, VlaError
from vla_ros.policies.remote.features import RemoteFeatures
from vla_ros.policies.remote.wire import unpack
from vla_ros.robot.contract import RobotContract
from vla_ros.types import FloatArray, RobotState

BUSY, NOT_UNDERSTOOD = "Busy: ", "InstructionError: "
"""First words of the texts of `vla-ros serve` that a client has another answer to than a fault."""

LONGEST_SENTENCE = 200


def read_answer(answer: bytes | str, features: RemoteFeatures) -> tuple[FloatArray, float]:
    """Return the actions (h, width), as the server means them, and its confidence, 0 to 1.

    Raises:
        WireError: when it is no message of the protocol.
        ChunkError: when the actions are missing, not numbers, of another shape, or not finite.
        ServerError: when it is the text of an error.
        InstructionError: when that says that the instruction cannot be followed.
        LinkError: when that says that the server is busy.
    """
    if isinstance(answer, str):
        raise _error_of(answer)
    values = unpack(answer)
    space, actions = features.action, values.get(features.action_key)
    if not isinstance(actions, np.ndarray) or actions.dtype.kind not in "fiu":
        got = type(actions).__name__ if actions is not None else f"only {sorted(values)}"
        raise ChunkError(f"the server's answer: expected an array of numbers under '{features.action_key}', got {got}")
    if actions.ndim != 2 or actions.shape[1] != space.width or not 1 <= actions.shape[0] <= space.horizon:
        raise ChunkError(
            f"the server's actions have shape {actions.shape}, expected 1 to {space.horizon} rows of {space.width} "
            f"columns: {[group.name for group in space.groups]}"
        )
    if not np.isfinite(actions).all():
        raise ChunkError(
            f"{int((~np.isfinite(actions)).sum())} of {actions.size} of the server's values are not finite"
        )
    return np.asarray(actions, dtype=np.float64), _confidence(values, features)


def _confidence(values: Mapping[str, Any], features: RemoteFeatures) -> float:
    if features.confidence_key is None:
        return 1.0
    confidence = values.get(features.confidence_key)
    if not isinstance(confidence, int | float | np.number) or not 0.0 <= float(confidence) <= 1.0:
        raise ChunkError(
            f"the server's '{features.confidence_key}' is {str(confidence)[:40]}, expected a number of 0 to 1"
        )
    return float(confidence)


def _error_of(text: str) -> VlaError:
    """Return the error that a text frame is; the last line of a traceback names it."""
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    last = lines[-1][:LONGEST_SENTENCE] if lines else "(an empty text)"
    if text.startswith(BUSY):
        return LinkError(f"the server is busy: {last.removeprefix(BUSY)}")
    if text.startswith(NOT_UNDERSTOOD):
        return InstructionError(last.removeprefix(NOT_UNDERSTOOD))
    return ServerError(f"the server answers with an error: {last}")


class Converter:
    """Brings a server's rows into the convention of a robot's contract."""

    def __init__(self, space: ActionSpace, contract: RobotContract) -> None:
        """Look whether that can be done.

        Args:
            space: Of the server.
            contract: Of the robot.

        Raises:
            ChunkError: naming what stands in the way: another rate, other arms, joints against tool.
        """
        mine, self._space, self._contract = contract.action, space, contract
        self._same = mine.groups == space.groups
        wrong = []
        if abs(mine.rate_hz - space.rate_hz) > 1e-6 * mine.rate_hz:
            wrong.append(f"rate_hz: {space.rate_hz:g} of the policy, {mine.rate_hz:g} of the robot's contract")
        if not self._same:
            wrong += _in_the_way(space, mine)
        if wrong:
            raise ChunkError("actions of the policy cannot be brought into the robot's: " + "; ".join(wrong))

    def __call__(self, actions: FloatArray, state: RobotState) -> FloatArray:
        """Return rows (h, width) of the contract; those beyond its horizon are left out.

        Args:
            actions: (h, width) of the server.
            state: At the observation behind the chunk.

        Raises:
            ChunkError: when a rotation is degenerate.
        """
        rows = actions[: self._contract.action.horizon]
        if self._same:
            return rows
        # Pinocchio comes with it, which a server that speaks the robot's own convention does not need.
        from vla_ros.actions.trajectory import ArmStart, decode_chunk, encode_chunk

        arm = self._space.arms[0]
        start = ArmStart(state.joint_positions, state.end_effector, self._contract.gripper.max_opening)
        found = decode_chunk(rows, self._space, {arm: start})[arm]
        mine = self._contract.action.arms[0]
        return encode_chunk({mine: found}, self._contract.action, {mine: start})


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
