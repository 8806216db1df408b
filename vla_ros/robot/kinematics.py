"""Forward kinematics and Jacobians of the arm, with Pinocchio."""

from __future__ import annotations

import numpy as np
import pinocchio

from vla_ros.actions.rotation_vectors import quaternion_from_matrix
from vla_ros.errors import ContractError, KinematicsError
from vla_ros.robot.contract import RobotContract
from vla_ros.robot.description.model_text import continuous_joints, model_text
from vla_ros.robot.description.urdf import read_model
from vla_ros.robot.posture import locked_joints, locked_posture
from vla_ros.types import FloatArray, Pose

SAME_PLACE = 1e-6
"""Tolerance between the base frame and the description's root, m and rad: the origin may be rounded."""

ROUNDING = 1e-6
"""Fraction by which a limit in the contract may exceed the description's: one of them may be rounded."""


MOST_TURN = 2.0 * np.pi
"""Largest allowed angle of a continuous joint either way, rad: cables and hoses do not rotate with it."""

TURNING = "JointModelR"
"""Prefix of Pinocchio's names for rotational joint models."""


class Kinematics:
    """Kinematic model of the arm; q holds the contract's joints, all others are locked, see `locked_posture`.

    Not thread-safe: Pinocchio writes its results into one data object.
    """

    def __init__(self, contract: RobotContract) -> None:
        """Build the model from the contract's URDF.

        Raises:
            ContractError: when the URDF cannot be read, lacks a joint or a frame of the contract, the base frame is
                not at its root, a joint of the arm is not rotational, limits disagree, or a joint of the URDF belongs
                neither to the arm nor to the gripper and the contract gives no position for it.
        """
        full = read_model(contract.urdf, model_text(contract))
        self.contract = contract
        self._endless = continuous_joints(contract)
        self._check_base(full)
        missing = [name for name in contract.joints.names if not full.existJointName(name)]
        if missing:
            raise ContractError(f"{contract.urdf.name} has no joints {missing}; it has {list(full.names)[1:]}")
        for name in contract.joints.names:
            index = contract.joints.names.index(name)
            furthest = max(abs(float(contract.joints.lower[index])), abs(float(contract.joints.upper[index])))
            if name in self._endless and not furthest <= MOST_TURN:
                raise ContractError(
                    f"joints.lower and upper of {name}, which turns on and on in {contract.urdf.name}: got up to "
                    f"{furthest} rad, expected at most {MOST_TURN:.4f}: one turn either way, as its driver counts"
                )
            kind = full.joints[full.getJointId(name)]
            if kind.nq != 1 or not kind.shortname().startswith(TURNING):
                raise ContractError(
                    f"{contract.urdf.name}: '{name}' does not turn ({kind.shortname()}); expected joints of "
                    'type="revolute" or "continuous": limits here are rad, and reach is counted so'
                )
        self._check_gripper(full)
        posture = locked_posture(full, contract, contract.fingers_closed)
        self.model = pinocchio.buildReducedModel(full, locked_joints(full, contract), posture)
        if tuple(self.model.names)[1:] != contract.joints.names:
            raise ContractError(
                f"joint order of {contract.urdf.name} is {tuple(self.model.names)[1:]}, "
                f"the contract's is {contract.joints.names}"
            )
        for arm in contract.arms:
            if not self.model.existFrame(arm.end_effector_frame):
                raise ContractError(f"{contract.urdf.name} has no frame '{arm.end_effector_frame}'")
        outside = (contract.joints.lower < self.model.lowerPositionLimit - 1e-9) | (
            contract.joints.upper > self.model.upperPositionLimit + 1e-9
        )
        if outside.any():
            names = [name for name, bad in zip(contract.joints.names, outside, strict=True) if bad]
            raise ContractError(f"the contract allows more travel than {contract.urdf.name} for {names}")
        self._check_limit("velocity", contract.joints.velocity, self.model.upperVelocityLimit, "rad/s")
        self._check_limit("effort", contract.joints.effort, self.model.upperEffortLimit, "N m")
        self.data = self.model.createData()
        self.frame_ids = tuple(self.model.getFrameId(arm.end_effector_frame) for arm in contract.arms)
        self._check_tools()
        leads = not contract.each_arm or contract.lead
        self._tool: int | None = (
            self.frame_ids[[arm.name for arm in contract.arms].index(contract.leading.name)] if leads else None
        )

    @property
    def frame_id(self) -> int:
        """Index of the tool frame in the model.

        Raises:
            ContractError: when there are several arms and none is the lead arm.
        """
        if self._tool is None:
            names = [arm.name for arm in self.contract.arms]
            raise ContractError(f"robot '{self.contract.name}' has a tool on each of {names}, expected one")
        return int(self._tool)

    @property
    def length(self) -> float:
        """Length of the longest arm, m: the sum of the link lengths from its first joint to the tool."""
        lengths, first = [], 1
        for arm, frame in zip(self.contract.arms, self.frame_ids, strict=True):
            end = first + arm.joints.count
            # Without the offset to the first joint, which is only the mounting.
            ways = [*list(self.model.jointPlacements)[first + 1 : end], self.model.frames[frame].placement]
            lengths.append(float(sum(np.linalg.norm(way.translation) for way in ways)))
            first = end
        return max(lengths)

    def _check_tools(self) -> None:
        """Check that no joint of another arm moves an arm's tool.

        Raises:
            ContractError: naming the arm.
        """
        for arm, frame in zip(self.contract.arms, self.frame_ids, strict=True):
            chain = [self.model.names[joint] for joint in self.model.supports[self.model.frames[frame].parentJoint]][1:]
            if foreign := [name for name in chain if name not in arm.joints.names]:
                raise ContractError(
                    f"end_effector_frame of arm '{arm.name}': {self.contract.urdf.name} moves "
                    f"'{arm.end_effector_frame}' by {foreign}, which is not among the arm's joints"
                )

    def _check_base(self, full: pinocchio.Model) -> None:
        """Check that the base frame coincides with the description's root, whose axes are used throughout.

        Raises:
            ContractError: saying where it is instead.
        """
        links = [frame for frame in full.frames if frame.type == pinocchio.FrameType.BODY]
        name, file, root = self.contract.base_frame, self.contract.urdf.name, links[0].name
        base = next((link for link in links if link.name == name), None)
        if base is None:
            raise ContractError(f"base_frame: {file} has no link '{name}'; expected its root, '{root}'")
        turn = float(np.linalg.norm(pinocchio.log3(base.placement.rotation)))
        way = float(np.linalg.norm(base.placement.translation))
        if base.parentJoint == 0 and way <= SAME_PLACE and turn <= SAME_PLACE:
            return
        moved = f"which {full.names[base.parentJoint]} moves"
        if base.parentJoint == 0:
            moved = f"which stands {way:.4f} m and {turn:.4f} rad from the root"
        raise ContractError(
            f"base_frame: got '{name}', {moved}; expected the root of {file}, '{root}': write that, and workspace, "
            "obstacles and actions in its axes"
        )

    def _check_gripper(self, full: pinocchio.Model) -> None:
        """Check that the finger joints are in the description and commanded only within their limits.

        Raises:
            ContractError: naming the joint.
        """
        file = self.contract.urdf.name
        grippers = [arm.gripper for arm in self.contract.arms]
        for gripper, name in ((one, name) for one in grippers for name in one.names):
            if not full.existJointName(name):
                raise ContractError(f"gripper.names: {file} has no joint '{name}'; it has {list(full.names)[1:]}")
            joint, number = full.joints[full.getJointId(name)], gripper.names.index(name)
            if joint.nq != 1:
                raise ContractError(f"gripper.names: '{name}' of {file} turns on and on; expected a joint with stops")
            index = joint.idx_q
            low, high = float(full.lowerPositionLimit[index]), float(full.upperPositionLimit[index])
            for line, position in (("closed", gripper.closed[number]), ("open", gripper.open[number])):
                if not low - 1e-9 <= position <= high + 1e-9:
                    raise ContractError(
                        f"gripper.{line} of {name}: got {position}, expected {low} to {high}, its stops in {file}"
                    )

    def _check_limit(self, line: str, ours: FloatArray, described: FloatArray, unit: str) -> None:
        """Check that no limit (n,) in the contract exceeds the description's, where 0 and inf mean none.

        Raises:
            ContractError: naming the joint.
        """
        said = np.isfinite(described) & (described > 0.0)
        for index in np.flatnonzero(said & ~(ours <= described * (1.0 + ROUNDING))).tolist():
            raise ContractError(
                f"joints.{line} of {self.contract.joints.names[index]}: got {float(ours[index])} {unit}, expected at "
                f"most the {float(described[index])} of {self.contract.urdf.name}: lower it in the contract"
            )

    def _checked(self, q: FloatArray) -> FloatArray:
        q = np.asarray(q, dtype=np.float64)
        if q.shape != (self.model.nq,) or not np.isfinite(q).all():
            raise KinematicsError(f"expected {self.model.nq} finite joint positions, got {q}")
        return q

    def forward(self, q: FloatArray) -> Pose:
        """Return the tool pose in the base frame at joint positions `q` (n,) rad."""
        placement = self.placement(q)
        return Pose(placement.translation.copy(), quaternion_from_matrix(placement.rotation))

    def placement(self, q: FloatArray) -> pinocchio.SE3:
        """Return the tool placement in the base frame as a Pinocchio SE3 (a copy)."""
        pinocchio.forwardKinematics(self.model, self.data, self._checked(q))
        return pinocchio.SE3(pinocchio.updateFramePlacement(self.model, self.data, self.frame_id))

    def placements(self, q: FloatArray) -> tuple[pinocchio.SE3, ...]:
        """Return the placement of each arm's tool in the base frame."""
        pinocchio.forwardKinematics(self.model, self.data, self._checked(q))
        return tuple(
            pinocchio.SE3(pinocchio.updateFramePlacement(self.model, self.data, frame)) for frame in self.frame_ids
        )

    def jacobian(self, q: FloatArray) -> FloatArray:
        """Return the (6, n) tool Jacobian at `q`: linear rows first, base-frame axes."""
        return self._jacobian(self._checked(q), self.frame_id)

    def jacobians(self, q: FloatArray) -> FloatArray:
        """Return the stacked tool Jacobians of all arms at `q`, (6 * arms, n), each as in `jacobian`."""
        checked = self._checked(q)
        return np.vstack([self._jacobian(checked, frame) for frame in self.frame_ids])

    def _jacobian(self, q: FloatArray, frame: int) -> FloatArray:
        jacobian = pinocchio.computeFrameJacobian(
            self.model, self.data, q, frame, pinocchio.ReferenceFrame.LOCAL_WORLD_ALIGNED
        )
        return np.asarray(jacobian, dtype=np.float64)
