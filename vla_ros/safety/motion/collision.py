"""Self-collision and obstacle distances with Coal, for the collision shapes of the robot description."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import coal
import numpy as np
import pinocchio

from vla_ros.errors import ContractError
from vla_ros.robot.contract import RobotContract
from vla_ros.robot.description.convex_cover import as_convex
from vla_ros.robot.description.model_text import model_text
from vla_ros.robot.description.urdf import read_model
from vla_ros.robot.posture import locked_joints, locked_posture
from vla_ros.safety.motion.obstacles import Obstacle, Shape
from vla_ros.safety.parameters import CollisionParameters
from vla_ros.safety.reasons import Reason
from vla_ros.types import FloatArray

WAVER = 2e-4
"""Tolerance while leaving a collision, m: only beyond it does the distance count as decreasing again."""

FINEST_SWEEP, COARSEST_SWEEP = 1e-4, 1e-3
"""Bounds of a pair's smallest sweep, m. The sweep is at least twice the required distance; between two checked postures
the pair may approach by half of it."""


KINDS = (Reason.SELF_COLLISION, Reason.OBSTACLE)
"""Reasons of collision pairs."""

_mesh_loader = coal.CachedMeshLoader()
"""Loads each mesh file once while it is unchanged: the self-test builds hundreds of models."""

_SHAPES = {
    Shape.BOX: coal.Box,
    Shape.SPHERE: coal.Sphere,
    Shape.CYLINDER: coal.Cylinder,
    Shape.CAPSULE: coal.Capsule,
}


@dataclass(frozen=True)
class CollisionPair:
    """Two shapes that must stay `distance` m apart, the joints that carry them, and the reason of a violation."""

    name: str
    distance: float
    reason: Reason
    first_joint: int
    second_joint: int


@dataclass(frozen=True)
class Approaches:
    """Bound on the approach speed of near pairs: `rows @ v >= -speed` for joint velocities v (n,).

    Attributes:
        rows: (m, n) m/rad, Jacobian of the distances.
        clearances: (m,) m, distance left above the required one.
        pairs: The pairs.
    """

    rows: FloatArray
    clearances: FloatArray
    pairs: tuple[CollisionPair, ...]


class CollisionModel:
    """Collision shapes of a robot and its surroundings; not thread-safe.

    The fingers are taken as fully open, where they reach furthest. Parts of the same or of neighboring links touch by
    construction and are not paired. `concessions` lists every other pair that cannot keep its required distance: one
    that is nearer at home keeps its distance there, and one whose shapes overlap at home cannot be monitored.

    Attributes:
        pairs: Monitored pairs, each with its required distance.
        concessions: A sentence for each pair that keeps less than the parameters require.
        at_home: All pairs, including unmonitored ones, with their distance at home, m.
        triangles: Number of triangles of all shapes that are neither primitive nor convex.
    """

    def __init__(
        self, contract: RobotContract, parameters: CollisionParameters, obstacles: tuple[Obstacle, ...]
    ) -> None:
        """Load the shapes from the contract's URDF.

        Raises:
            ContractError: when the URDF has no shapes, a mesh does not exist, an obstacle is too near at home, or a
                locked joint has no known position.
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
        """Relax the distance of self-collision pairs that are too near at home; return a sentence for each.

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
        """Return the distance of every pair, m, negative on overlap, at joint positions (n,)."""
        pinocchio.computeDistances(self._model, self._data, self._shapes, self._results, positions)
        return np.array([result.min_distance for result in self._results.distanceResults])

    def held(self, distances: FloatArray) -> FloatArray:
        """Return the distance that every pair must keep from `distances` on: the required one, or its current one."""
        return np.asarray(np.minimum(self._required, distances - WAVER), dtype=np.float64)

    def clearances(self, distances: FloatArray) -> dict[str, float]:
        """Return the smallest clearance of `distances` above the required ones, m, by kind of pair."""
        left = distances - self._required
        kinds = {reason.label: [pair.reason is reason for pair in self.pairs] for reason in KINDS}
        return {name: float(left[chosen].min()) for name, chosen in kinds.items() if any(chosen)}

    def violated_along(self, path: FloatArray, held: FloatArray, distances: FloatArray) -> CollisionPair | None:
        """Return a pair that comes nearer than `held` along `path` (k, n) rad, or None.

        Conservative advancement: a pair at distance d that must keep h is measured again before its parts can have
        moved by d - h + s relative to each other. So it never comes nearer than h - s / 2 in between, where s is the
        pair's sweep: nothing is touched, and nothing is passed through, however thin it is.

        Args:
            path: Postures joined by straight lines in joint space, starting where `distances` were measured.
            held: Distance that every pair must keep, m.
            distances: Distance of every pair at `path[0]`, m.
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
            on = clear < ways[-1]  # the others cannot come too near on the rest of the path
            if row + part >= len(path) - 1 or not on.any():
                return None
            suspects, ways, free = suspects[on], ways[:, on], clear[on] + self._sweep[suspects[on]]

    def approaches(self, positions: FloatArray) -> tuple[FloatArray, Approaches]:
        """Return all distances at joint positions (n,), and the bounds on the motion of near pairs."""
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
        """Return the gradient of the distance of pair `index` with respect to the joints, (n,)."""
        result, pair = self._results.distanceResults[index], self.pairs[index]
        normal = np.asarray(result.normal)  # from the first shape to the second
        first = self._point_row(pair.first_joint, np.asarray(result.getNearestPoint1()), normal)
        second = self._point_row(pair.second_joint, np.asarray(result.getNearestPoint2()), normal)
        return np.asarray(second - first, dtype=np.float64)

    def _point_row(self, joint: int, point: FloatArray, direction: FloatArray) -> FloatArray:
        """Return the speed of a `point` on joint `joint` along `direction`, per joint velocity."""
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
    """Return pairs of a fixed shape and one behind the first joint of an arm that is not mounted on it.

    The base of another arm has no parent joint either, but is not a neighbor: neighbors are the link that carries the
    first joint, and the links before it down to the root.
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
    """Return the maximum reach of a shape from the joint that carries it, m."""
    shape.geometry.computeLocalAABB()  # its radius is -1 before
    middle = shape.placement.act(np.asarray(shape.geometry.aabb_center))  # a mesh may be centered anywhere
    return float(np.linalg.norm(middle)) + float(shape.geometry.aabb_radius)


def _due(ways: FloatArray, free: FloatArray) -> tuple[int, float]:
    """Return the row, and the fraction to the next one, at which the first of `ways` (k, s) reaches `free` (s,)."""
    row = int((ways <= free).sum(axis=0).min()) - 1
    if row >= len(ways) - 1:
        return len(ways) - 1, 0.0
    step = ways[row + 1] - ways[row]
    parts = np.divide(free - ways[row], step, out=np.ones_like(step), where=step > 0.0)
    return row, float(np.clip(parts, 0.0, 1.0).min())


def _reaches(
    model: pinocchio.Model, shapes: pinocchio.GeometryModel, pairs: list[CollisionPair], indices: list[tuple[int, int]]
) -> FloatArray:
    """Return an upper bound on the relative motion of the parts of pair p due to joint i, (p, i) m/rad.

    Only the joints between the two parts count. None moves a point by more than its distance from the joint's axis,
    which is at most the length of the chain to the shape plus the shape's extent.
    """
    reaches = np.zeros((len(pairs), model.nv))
    extents = [_extent(shape) for shape in shapes.geometryObjects]
    chains = [list(support)[1:] for support in model.supports]
    steps = [float(np.linalg.norm(placement.translation)) for placement in model.jointPlacements]
    columns = [joint.idx_v for joint in model.joints]
    for row, (pair, parts) in enumerate(zip(pairs, indices, strict=True)):
        for joint, part, other in (
            (pair.first_joint, parts[0], pair.second_joint),
            (pair.second_joint, parts[1], pair.first_joint),
        ):
            length = extents[part]
            for one in reversed(chains[joint]):
                if one in chains[other]:
                    break
                reaches[row, columns[one]] = length
                length += steps[one]
    return reaches


def _thickness(shape: pinocchio.GeometryObject) -> float:
    """Return the smallest side of a shape's bounding box in its own axes, m."""
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
    except (ValueError, RuntimeError) as error:  # the error names the file
        raise ContractError(f"{contract.urdf.name}: its collision shapes cannot be read: {error}") from error
    for shape in shapes.geometryObjects:
        shape.geometry = as_convex(shape.geometry)
    return full, shapes


def links_at_home(model: CollisionModel) -> dict[str, float]:
    """Return the smallest distance at home, m, between the shapes of any two links: "link1 and link3" to it."""
    nearest: dict[str, float] = {}
    for pair, distance in model.at_home:
        links = " and ".join(name.rpartition("_")[0] for name in pair.name.split(" and "))
        if pair.reason is Reason.OBSTACLE:
            links = pair.name.split(" and ")[0].rpartition("_")[0] + " and " + pair.name.split(" and ")[1]
        nearest[links] = min(distance, nearest.get(links, np.inf))
    return nearest


def mesh_files(contract: RobotContract) -> list[Path]:
    """Return the mesh files, besides the URDF, of the robot's collision shapes.

    Raises:
        ContractError: when a file does not exist.
    """
    _, shapes = _read_shapes(contract)
    paths = {Path(shape.meshPath) for shape in shapes.geometryObjects}
    return sorted(path for path in paths if path.is_file())  # for a primitive shape it is a word such as BOX
