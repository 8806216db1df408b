"""Distances between the arm's parts and to obstacles, by Coal, over the shapes of the robot description."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import coal
import numpy as np
import pinocchio

from vla_ros.errors import ContractError
from vla_ros.robot.contract import RobotContract
from vla_ros.robot.convex_cover import as_convex
from vla_ros.robot.description import read_model
from vla_ros.robot.model_text import model_text
from vla_ros.robot.posture import locked_joints, locked_posture
from vla_ros.safety.obstacles import Obstacle, Shape
from vla_ros.safety.parameters import CollisionParameters
from vla_ros.safety.reasons import Reason
from vla_ros.types import FloatArray

WAVER = 2e-4
"""What is on its way out of a collision may waver by this, m, before it counts as going back in."""

FINEST_SWEEP, COARSEST_SWEEP = 1e-4, 1e-3
"""Between two checked postures a pair may come nearer by half of twice its required distance, or by half of this, m."""


KINDS = (Reason.SELF_COLLISION, Reason.OBSTACLE)
"""Kinds of pairs."""

_mesh_loader = coal.CachedMeshLoader()
"""Reads a file once as long as it does not change: the self-test builds some hundred models."""

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

    The fingers count as wide open, which is where they reach furthest. Parts of the same or of neighbouring links touch
    by construction and are no pair. `concessions` names every other pair that does not keep what is asked for: one that
    stands nearer at home keeps what it has there, and one whose shapes overlap at home cannot be watched.

    Attributes:
        pairs: Which pairs are watched, each with the distance that it must keep.
        concessions: A sentence for each pair that keeps less than the parameters ask for.
        at_home: Every pair, also those that are not watched, with its distance at home, m.
        triangles: How many triangles the shapes have that are neither primitive nor convex.
    """

    def __init__(
        self, contract: RobotContract, parameters: CollisionParameters, obstacles: tuple[Obstacle, ...]
    ) -> None:
        """Read the shapes from the contract's URDF.

        Raises:
            ContractError: when the URDF has no shapes, a mesh is not there, the home posture touches an obstacle, or it
                is not known where a joint stands that the arm does not move.
        """
        self._influence = parameters.influence_distance
        full, shapes = _read_shapes(contract)
        posture = locked_posture(full, contract, contract.fingers_open)
        self._model, self._shapes = pinocchio.buildReducedModel(full, shapes, locked_joints(full, contract), posture)
        if self._shapes.ngeoms == 0:
            raise ContractError(f"{contract.urdf.name} has no collision shapes")
        parts = list(range(self._shapes.ngeoms))
        self._strangers = _strangers(self._model, self._shapes, contract)
        self.triangles = sum(
            shape.geometry.num_tris
            for shape in self._shapes.geometryObjects
            if isinstance(shape.geometry, coal.BVHModelBase)
        )
        self._add_pairs(parts, parameters, obstacles)
        self._data, self._results = self._model.createData(), pinocchio.GeometryData(self._shapes)
        self.concessions = self._concede(contract)
        self._required = np.array([pair.distance for pair in self.pairs])
        self._reach = _reaches(self._model, self._shapes, self.pairs, self._indices)
        thinnest = [_thickness(self._shapes.geometryObjects[second]) for _, second in self._indices]
        finest = np.clip(0.5 * np.array(thinnest), FINEST_SWEEP, COARSEST_SWEEP)
        self._sweep = np.maximum(2.0 * self._required, finest)

    def _add_pairs(self, parts: list[int], parameters: CollisionParameters, obstacles: tuple[Obstacle, ...]) -> None:
        objects = self._shapes.geometryObjects
        self.pairs: list[CollisionPair] = []
        self._indices: list[tuple[int, int]] = []
        names = [objects[part].name for part in parts]
        joints = [objects[part].parentJoint for part in parts]
        parents = list(self._model.parents)
        for first in parts:
            for second in parts[first + 1 :]:
                one, other = joints[first], joints[second]
                neighbors = parents[one] == other or parents[other] == one
                if one != other and (not neighbors or (first, second) in self._strangers):
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

    def _concede(self, contract: RobotContract) -> tuple[str, ...]:
        """Ask of self-pairs that are too near at home for what they have there; returns a sentence for each.

        Raises:
            ContractError: when an obstacle is too near at home.
        """
        kept: list[int] = []
        sentences: list[str] = []
        distances = self.distances(contract.joints.home).tolist()
        self.at_home = tuple(zip(self.pairs, distances, strict=True))
        for index, distance in enumerate(distances):
            pair = self.pairs[index]
            if distance > pair.distance:
                kept.append(index)
            elif pair.reason is Reason.OBSTACLE:
                raise ContractError(f"at home, {pair.name} are nearer than {pair.distance} m: check the obstacles")
            elif distance > 2.0 * WAVER:
                sentences.append(f"{pair.name} keep {distance:.3f} m, as at home, instead of {pair.distance} m")
                self.pairs[index] = replace(pair, distance=distance - WAVER)
                kept.append(index)
            else:
                sentences.append(f"{pair.name} are not watched: their shapes touch at home")
        self._indices = [self._indices[index] for index in kept]
        self.pairs = [self.pairs[index] for index in kept]
        self._register()
        self._results = pinocchio.GeometryData(self._shapes)
        return tuple(sentences)

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

    def violated_along(self, path: FloatArray, held: FloatArray, distances: FloatArray) -> CollisionPair | None:
        """Return a pair that comes nearer than `held` on the way along `path` (k, n) rad, or None.

        Conservative advancement: a pair that is d apart and must keep h is looked at again before its parts can have
        moved by d - h + s against each other. So it never comes nearer than h - s / 2 in between, where s is twice its
        required distance: nothing is touched, and nothing is passed through however thin it is.

        Args:
            path: Postures that are joined by straight lines in joint space, from where `distances` were taken.
            held: What every pair must keep, m.
            distances: Of every pair at `path[0]`, m.
        """
        moves = np.abs(np.diff(path, axis=0))
        suspects = np.flatnonzero(~(distances - self._reach @ moves.sum(axis=0) >= held))  # NaN is suspect, too
        if len(suspects) == 0:
            return None
        ways = np.vstack([np.zeros(len(suspects)), np.cumsum(moves @ self._reach[suspects].T, axis=0)])
        free = np.nan_to_num(distances[suspects] - held[suspects]) + self._sweep[suspects]
        while True:
            row, part = _due(ways, free)
            posture, way = path[row], ways[row]
            if part > 0.0:
                posture = posture + part * (path[row + 1] - posture)
                way = way + part * (ways[row + 1] - way)
            pinocchio.updateGeometryPlacements(self._model, self._data, self._shapes, self._results, posture)
            measured = np.empty(len(suspects))
            for i, index in enumerate(suspects.tolist()):
                measured[i] = pinocchio.computeDistance(self._shapes, self._results, index).min_distance
                if not measured[i] >= held[index]:
                    return self.pairs[index]
            clear = way + measured - held[suspects]
            on = clear < ways[-1]  # the others cannot come too near on what is left
            if row + part >= len(path) - 1 or not on.any():
                return None
            suspects, ways, free = suspects[on], ways[:, on], clear[on] + self._sweep[suspects[on]]

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


def _strangers(
    model: pinocchio.Model, shapes: pinocchio.GeometryModel, contract: RobotContract
) -> frozenset[tuple[int, int]]:
    """Return pairs of a shape that stands and one behind the first joint of an arm that does not stand on it.

    The base of another arm hangs on no joint either, but is no neighbour: what carries the first joint is, and the
    links before that, down to the root.
    """
    if len(contract.arms) == 1:
        return frozenset()
    found = set()
    for arm in contract.arms:
        joint = model.getJointId(arm.joints.names[0])
        carriers, frame = set(), model.frames[model.getFrameId(arm.joints.names[0])].parentFrame
        while frame not in carriers:  # the universe is its own parent
            carriers.add(frame)
            frame = model.frames[frame].parentFrame
        for first, one in enumerate(shapes.geometryObjects):
            for second, other in enumerate(shapes.geometryObjects):
                standing = one if one.parentJoint == 0 else other
                if {one.parentJoint, other.parentJoint} == {0, joint} and standing.parentFrame not in carriers:
                    found.add((first, second))
    return frozenset(found)


def _extent(shape: pinocchio.GeometryObject) -> float:
    """Return how far a shape reaches from the joint that carries it, at most, m."""
    shape.geometry.computeLocalAABB()  # before that its radius is -1
    middle = shape.placement.act(np.asarray(shape.geometry.aabb_center))  # of a mesh it may be anywhere
    return float(np.linalg.norm(middle)) + float(shape.geometry.aabb_radius)


def _due(ways: FloatArray, free: FloatArray) -> tuple[int, float]:
    """Return the row, and the part of the way to the next one, at which the first of `ways` (k, s) is `free` (s,)."""
    row = int((ways <= free).sum(axis=0).min()) - 1
    if row >= len(ways) - 1:
        return len(ways) - 1, 0.0
    step = ways[row + 1] - ways[row]
    parts = np.divide(free - ways[row], step, out=np.ones_like(step), where=step > 0.0)
    return row, float(np.clip(parts, 0.0, 1.0).min())


def _reaches(
    model: pinocchio.Model, shapes: pinocchio.GeometryModel, pairs: list[CollisionPair], indices: list[tuple[int, int]]
) -> FloatArray:
    """Return by how much joint i moves the parts of pair p against each other at most, (p, i) m/rad.

    Only the joints between the two parts do; none moves a point by more than its distance from the joint's axis, which
    is at most the length of the chain to the shape and what the shape reaches from there.
    """
    reaches = np.zeros((len(pairs), model.nv))
    extents = [_extent(shape) for shape in shapes.geometryObjects]
    chains = [list(support)[1:] for support in model.supports]
    steps = [float(np.linalg.norm(placement.translation)) for placement in model.jointPlacements]
    columns = [joint.idx_v for joint in model.joints]
    for row, (pair, parts) in enumerate(zip(pairs, indices, strict=True)):
        for joint, part, other in (
            (pair.first_joint, parts[0], pair.second_joint), (pair.second_joint, parts[1], pair.first_joint),
        ):  # fmt: skip
            length = extents[part]
            for one in reversed(chains[joint]):
                if one in chains[other]:
                    break
                reaches[row, columns[one]] = length
                length += steps[one]
    return reaches


def _thickness(shape: pinocchio.GeometryObject) -> float:
    """Return the least width of a shape's bounding box along its own axes, m."""
    shape.geometry.computeLocalAABB()
    box = shape.geometry.aabb_local
    return float(min(box.width(), box.height(), box.depth()))


def _read_shapes(contract: RobotContract) -> tuple[pinocchio.Model, pinocchio.GeometryModel]:
    text = model_text(contract)
    full = read_model(contract.urdf, text)
    try:
        shapes = pinocchio.buildGeomFromUrdfString(
            full, text, pinocchio.GeometryType.COLLISION, mesh_loader=_mesh_loader
        )
    except (ValueError, RuntimeError) as error:  # says which file
        raise ContractError(f"{contract.urdf.name}: its collision shapes cannot be read: {error}") from error
    for shape in shapes.geometryObjects:
        shape.geometry = as_convex(shape.geometry)
    return full, shapes


def links_at_home(model: CollisionModel) -> dict[str, float]:
    """Return the least distance at home, m, of the shapes of each two links: "link1 and link3" to it."""
    nearest: dict[str, float] = {}
    for pair, distance in model.at_home:
        links = " and ".join(name.rpartition("_")[0] for name in pair.name.split(" and "))
        if pair.reason is Reason.OBSTACLE:
            links = pair.name.split(" and ")[0].rpartition("_")[0] + " and " + pair.name.split(" and ")[1]
        nearest[links] = min(distance, nearest.get(links, np.inf))
    return nearest


def mesh_files(contract: RobotContract) -> list[Path]:
    """Return the files, beside its URDF, that the robot's collision shapes come from.

    Raises:
        ContractError: when one of them is not there.
    """
    _, shapes = _read_shapes(contract)
    paths = {Path(shape.meshPath) for shape in shapes.geometryObjects}
    return sorted(path for path in paths if path.is_file())  # of a primitive shape it is a word such as BOX
