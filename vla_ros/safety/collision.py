"""Distances between the arm's parts and to obstacles, by Coal, over the shapes of the robot description."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import coal
import numpy as np
import pinocchio

from vla_ros.errors import ContractError
from vla_ros.robot.contract import RobotContract
from vla_ros.safety.obstacles import Obstacle, Shape
from vla_ros.safety.parameters import CollisionParameters
from vla_ros.safety.reasons import Reason
from vla_ros.types import FloatArray

WAVER = 2e-4
"""What is on its way out of a collision may waver by this, m, before it counts as going back in."""


KINDS = (Reason.SELF_COLLISION, Reason.OBSTACLE)
"""Kinds of pairs."""

_SHAPES = {
    Shape.BOX: coal.Box, Shape.SPHERE: coal.Sphere, Shape.CYLINDER: coal.Cylinder, Shape.CAPSULE: coal.Capsule,
}  # fmt: skip


@dataclass(frozen=True)
class CollisionPair:
    """Two shapes that must stay `distance` m apart, the joints that carry them, and the reason when they do not."""

    name: str
    distance: float
    reason: Reason
    first_joint: int
    second_joint: int


@dataclass(frozen=True)
class Approaches:
    """How fast near pairs may close in: `rows @ v >= -speed` for joint velocities v (n,).

    Attributes:
        rows: (m, n) m/rad, change of the distance of pair i for joint velocities.
        clearances: (m,) m that are left before the pair is too near.
        pairs: Which pairs.
    """

    rows: FloatArray
    clearances: FloatArray
    pairs: tuple[CollisionPair, ...]


class CollisionModel:
    """The shapes of a robot and its surroundings; one thread at a time.

    The fingers count as wide open, which is where they reach furthest. Neighbouring parts touch by construction and are
    left out, as are parts that stand nearer at home than what is asked for.
    """

    def __init__(
        self, contract: RobotContract, parameters: CollisionParameters, obstacles: tuple[Obstacle, ...]
    ) -> None:
        """Read the shapes from the contract's URDF.

        Raises:
            ContractError: when the URDF has no shapes, a mesh is not there, or the home posture touches an obstacle.
        """
        self._influence = parameters.influence_distance
        full, shapes = _read_shapes(contract)
        posture = pinocchio.neutral(full)
        for name in contract.gripper.names:
            posture[full.joints[full.getJointId(name)].idx_q] = contract.gripper.open
        locked = [full.getJointId(name) for name in list(full.names)[1:] if name not in contract.joints.names]
        self._model, self._shapes = pinocchio.buildReducedModel(full, shapes, locked, posture)
        if self._shapes.ngeoms == 0:
            raise ContractError(f"{contract.urdf.name} has no collision shapes")
        parts = list(range(self._shapes.ngeoms))
        self._add_pairs(parts, parameters, obstacles)
        self._data, self._results = self._model.createData(), pinocchio.GeometryData(self._shapes)
        self._leave_out_touching(contract)
        self._required = np.array([pair.distance for pair in self.pairs])
        # No point of the arm is further from any joint's axis, so a joint's turn moves none by more than this times it.
        self._reach = sum(float(np.linalg.norm(placement.translation)) for placement in self._model.jointPlacements)
        self._reach += max(_extent(shape) for shape in list(self._shapes.geometryObjects)[: len(parts)])

    def _add_pairs(self, parts: list[int], parameters: CollisionParameters, obstacles: tuple[Obstacle, ...]) -> None:
        objects = self._shapes.geometryObjects
        self.pairs: list[CollisionPair] = []
        self._indices: list[tuple[int, int]] = []
        names = [objects[part].name for part in parts]
        joints = [objects[part].parentJoint for part in parts]
        for first in parts:
            for second in parts[first + 1 :]:
                if abs(joints[first] - joints[second]) > 1:
                    label = f"{names[first]} and {names[second]}"
                    self.pairs.append(
                        CollisionPair(
                            label, parameters.self_distance, Reason.SELF_COLLISION, joints[first], joints[second]
                        )
                    )
                    self._indices.append((first, second))
        for obstacle in obstacles:
            turned = pinocchio.rpy.rpyToMatrix(*(float(angle) for angle in obstacle.rotation))
            placement = pinocchio.SE3(turned, np.array(obstacle.position))
            shape = _SHAPES[obstacle.shape](*(float(size) for size in obstacle.dimensions))
            index = self._shapes.addGeometryObject(pinocchio.GeometryObject(obstacle.name, 0, 0, placement, shape))
            for part in parts:
                if joints[part] > 0:
                    label = f"{names[part]} and {obstacle.name}"
                    self.pairs.append(
                        CollisionPair(label, parameters.obstacle_distance, Reason.OBSTACLE, joints[part], 0)
                    )
                    self._indices.append((part, index))
        self._register()

    def _register(self) -> None:
        self._shapes.removeAllCollisionPairs()
        for first, second in self._indices:
            self._shapes.addCollisionPair(pinocchio.CollisionPair(first, second))

    def _leave_out_touching(self, contract: RobotContract) -> None:
        """Drop self-pairs that are too near at home: they are so by construction."""
        near = self.distances(contract.joints.home) <= np.array([pair.distance for pair in self.pairs])
        for pair, bad in zip(self.pairs, near, strict=True):
            if bad and pair.reason is Reason.OBSTACLE:
                raise ContractError(f"at home, {pair.name} are nearer than {pair.distance} m: check the obstacles")
        self._indices = [index for index, bad in zip(self._indices, near, strict=True) if not bad]
        self.pairs = [pair for pair, bad in zip(self.pairs, near, strict=True) if not bad]
        self._register()
        self._results = pinocchio.GeometryData(self._shapes)

    def distances(self, positions: FloatArray) -> FloatArray:
        """Return the distance of every pair, m, negative where they overlap, at joint positions (n,)."""
        pinocchio.computeDistances(self._model, self._data, self._shapes, self._results, positions)
        return np.array([result.min_distance for result in self._results.distanceResults])

    def held(self, distances: FloatArray) -> FloatArray:
        """Return what every pair must keep when it starts from `distances`: its required distance, or what it has."""
        return np.asarray(np.minimum(self._required, distances - WAVER), dtype=np.float64)

    def clearances(self, distances: FloatArray) -> dict[str, float]:
        """Return how much of `distances` is left above what is required, m, least of each kind of pair."""
        left = distances - self._required
        kinds = {reason.label: [pair.reason is reason for pair in self.pairs] for reason in KINDS}
        return {name: float(left[chosen].min()) for name, chosen in kinds.items() if any(chosen)}

    def violated(
        self, positions: FloatArray, held: FloatArray, near: FloatArray, distances: FloatArray
    ) -> CollisionPair | None:
        """Return a pair that is nearer than `held` at joint positions (n,), or None.

        Only the pairs are looked at that can have come so near on the way from joint positions `near` (n,), where they
        were `distances` apart.
        """
        way = self._reach * float(np.abs(positions - near).sum())
        suspects = np.flatnonzero(~(distances - way >= held))  # ~(>=): what is NaN is suspect, too
        if len(suspects) == 0:
            return None
        pinocchio.updateGeometryPlacements(self._model, self._data, self._shapes, self._results, positions)
        for index in suspects.tolist():
            result = pinocchio.computeDistance(self._shapes, self._results, index)
            if not result.min_distance >= held[index]:
                return self.pairs[index]
        return None

    def approaches(self, positions: FloatArray) -> tuple[FloatArray, Approaches]:
        """Return all distances at joint positions (n,), and how the near pairs may move."""
        distances = self.distances(positions)
        near = np.flatnonzero(distances < self._required + self._influence)
        if len(near) == 0:
            return distances, Approaches(np.zeros((0, len(positions))), np.zeros(0), ())
        pinocchio.computeJointJacobians(self._model, self._data, positions)
        rows = np.stack([self._row(int(index)) for index in near])
        return distances, Approaches(
            rows, distances[near] - self._required[near], tuple(self.pairs[int(index)] for index in near)
        )

    def _row(self, index: int) -> FloatArray:
        """Return how the distance of pair `index` changes with the joints, (n,)."""
        result, pair = self._results.distanceResults[index], self.pairs[index]
        normal = np.asarray(result.normal)  # from the first shape to the second
        first = self._point_row(pair.first_joint, np.asarray(result.getNearestPoint1()), normal)
        second = self._point_row(pair.second_joint, np.asarray(result.getNearestPoint2()), normal)
        return np.asarray(second - first, dtype=np.float64)

    def _point_row(self, joint: int, point: FloatArray, direction: FloatArray) -> FloatArray:
        """Return the speed along `direction` of a `point` that joint `joint` carries, per joint velocity."""
        if joint == 0:
            return np.zeros(self._model.nv)
        jacobian = pinocchio.getJointJacobian(
            self._model, self._data, joint, pinocchio.ReferenceFrame.LOCAL_WORLD_ALIGNED
        )
        lever = pinocchio.skew(point - np.asarray(self._data.oMi[joint].translation)) @ direction
        return np.asarray(direction @ jacobian[:3] + lever @ jacobian[3:], dtype=np.float64)


def _extent(shape: pinocchio.GeometryObject) -> float:
    """Return how far a shape reaches from the joint that carries it, at most, m."""
    shape.geometry.computeLocalAABB()  # before that its radius is -1
    middle = shape.placement.act(np.asarray(shape.geometry.aabb_center))  # of a mesh it may be anywhere
    return float(np.linalg.norm(middle)) + float(shape.geometry.aabb_radius)


def _read_shapes(contract: RobotContract) -> tuple[pinocchio.Model, pinocchio.GeometryModel]:
    full = pinocchio.buildModelFromUrdf(str(contract.urdf))
    try:
        return full, pinocchio.buildGeomFromUrdf(full, str(contract.urdf), pinocchio.GeometryType.COLLISION)
    except ValueError as error:  # says which file
        raise ContractError(f"{contract.urdf.name}: its collision shapes cannot be read: {error}") from error


def mesh_files(contract: RobotContract) -> list[Path]:
    """Return the files, beside its URDF, that the robot's collision shapes come from.

    Raises:
        ContractError: when one of them is not there.
    """
    _, shapes = _read_shapes(contract)
    paths = {Path(shape.meshPath) for shape in shapes.geometryObjects}
    return sorted(path for path in paths if path.is_file())  # of a primitive shape it is a word such as BOX
