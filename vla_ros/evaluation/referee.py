"""An independent referee of recorded commands: every limit computed anew, with nothing of the safety layer's code.

Positions, velocities, accelerations and jerks are finite differences of the commands; where the tool and the arm's
parts are, MuJoCo says, while the safety layer asks Pinocchio and Coal.

`judge` takes commands that are equally far apart. `judge_timed` and `judge_trajectories` take them with their times,
and judge what joint trajectory controllers make of them (`reference_limits.py`, `trajectory_controller.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, field
from itertools import combinations, pairwise, permutations, product

import mujoco
import numpy as np

from vla_ros.envs.mujoco.model import build_model
from vla_ros.evaluation import reference_limits
from vla_ros.evaluation.reference_limits import CONTROLLERS, Arming, commanded, judge_armings, judge_reference
from vla_ros.evaluation.trajectory_controller import TimedTrajectory, TrajectoryControllerModel
from vla_ros.robot.contract import RobotContract
from vla_ros.types import FloatArray

ROUNDING = 1e-6
"""Relative, of differences of rounded numbers."""

SAME_POSTURE = 0.02
"""An arm that is nearer to its last command than this, rad, is still where its controller holds it."""

WORKSPACE_SLACK = 1e-3
"""The tool may be so far beyond a face, m."""

TOUCHING = -1e-3
"""Parts of the arm whose shapes overlap by more than this at rest at home, m, are built so; MuJoCo's distances between
boxes and cylinders are right within it."""

KINDS = ("not_finite", "joint_position", "joint_velocity", "joint_acceleration", "joint_jerk", "workspace", "table",
         "self_collision", "arm_collision", "gripper_range", "gripper_velocity", *reference_limits.KINDS)  # fmt: skip
"""What commands can violate; each is counted by commands, and not by joints or arms, or as `reference_limits` says."""

DISTANCES = ("table_mm", "self_mm", "arms_mm")
"""Of `Judgement.worst`, what is worse the smaller it is."""


@dataclass
class Judgement:
    """What was found.

    Attributes:
        commands: How many were judged.
        violations: Kind to the number of commands that violate it.
        worst: The largest share of each joint limit (1 is at the limit), of the tool's speed (not counted as a
            violation: a stop is made at joint level), how far the tool was beyond the workspace, mm, and the smallest
            distances of the arm to the table, of its parts to each other and, where there are several arms, of parts
            of different arms, mm.
    """

    commands: int = 0
    violations: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    worst: dict[str, float] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """Number of violations of all kinds."""
        return sum(self.violations.values())

    def add(self, other: Judgement) -> None:
        """Take the findings of another recording in."""
        self.commands += other.commands
        for kind, count in other.violations.items():
            self.violations[kind] += count
        for name, value in other.worst.items():
            choose = min if name in DISTANCES else max
            self.worst[name] = choose(self.worst.get(name, value), value)


class Referee:
    """Judges sequences of commands; one thread at a time."""

    def __init__(self, contract: RobotContract, period: float = 0.01) -> None:
        """Judge commands that are `period` s apart by the limits of `contract`."""
        self._contract, self.period = contract, period
        self._model = build_model(contract)
        self._data = mujoco.MjData(self._model)
        self._arm = [self._model.joint(name).qposadr[0] for name in contract.joints.names]
        self._fingers = [self._model.joint(name).qposadr[0] for name in contract.finger_names]
        self._tools = [self._model.body(arm.end_effector_frame).id for arm in contract.arms]
        self._table = self._model.geom("table").id
        self._parts_of = [self._moving_parts(arm.joints.names[0]) for arm in contract.arms]
        self._parts = [geom for parts in self._parts_of for geom in parts]
        self._stand_open()
        self._pairs, self._pairs_of_arms = self._apart_at_home(), self._apart_between_arms()

    def _moving_parts(self, joint: str) -> list[int]:
        """Return the geoms that a joint carries."""
        first = self._model.joint(joint).bodyid[0]
        carried = {int(first)}
        for body in range(int(first) + 1, self._model.nbody):
            if int(self._model.body_parentid[body]) in carried:
                carried.add(body)
        return [geom for geom in range(self._model.ngeom) if int(self._model.geom_bodyid[geom]) in carried]

    def _joint_of(self, geom: int) -> int:
        """Return the joint of the arm that carries a geom, by its place in the chain; -1 for the base."""
        body = int(self._model.geom_bodyid[geom])
        bodies = [int(self._model.joint(name).bodyid[0]) for name in self._contract.joints.names]
        while body and body not in bodies:
            body = int(self._model.body_parentid[body])
        return bodies.index(body) if body else -1

    def _stand_open(self) -> None:
        """Let all arms stand at home, their grippers wide open."""
        self._data.qpos[self._arm] = self._contract.joints.home
        self._open_fingers()
        mujoco.mj_kinematics(self._model, self._data)

    def _open_fingers(self) -> None:
        openings = [arm.gripper.max_opening for arm in self._contract.arms]
        self._data.qpos[self._fingers] = self._contract.finger_positions(openings)

    def _apart_at_home(self) -> list[tuple[int, int]]:
        """Return the pairs of parts of one arm that a joint between them does not join, and that are apart at home."""
        carrier = {geom: self._joint_of(geom) for geom in self._parts}
        return [
            (first, second)
            for parts in self._parts_of
            for first, second in combinations(parts, 2)
            if abs(carrier[first] - carrier[second]) > 1 and self._distance(first, second) > -TOUCHING
        ]

    def _apart_between_arms(self) -> list[tuple[int, int]]:
        """Return the pairs of a part of one arm and a part of another, or of its base, that are apart at home."""
        arms = range(len(self._parts_of))
        found = [
            pair for one, other in combinations(arms, 2) for pair in product(self._parts_of[one], self._parts_of[other])
        ]
        carriers = [self._carriers(arm.joints.names[0]) for arm in self._contract.arms]
        for one, other in permutations(arms, 2):
            foreign = carriers[other] - carriers[one]
            standing = [geom for geom in range(self._model.ngeom) if int(self._model.geom_bodyid[geom]) in foreign]
            found += product(self._parts_of[one], standing)
        return [pair for pair in found if self._distance(*pair) > -TOUCHING]

    def _carriers(self, joint: str) -> set[int]:
        """Return the bodies that carry a joint, without the world."""
        body, carriers = int(self._model.body_parentid[self._model.joint(joint).bodyid[0]]), set[int]()
        while body:
            carriers.add(body)
            body = int(self._model.body_parentid[body])
        return carriers

    def _distance(self, first: int, second: int, most: float = 0.2) -> float:
        return float(mujoco.mj_geomDistance(self._model, self._data, first, second, most, None))

    def judge(
        self, commands: FloatArray, openings: FloatArray | None = None, *, table_every: int = 5, moving: bool = False
    ) -> Judgement:  # fmt: skip
        """Judge joint positions (k, n) rad and openings, m, that were commanded one after the other.

        What is not finite is counted, and left out of everything else.

        Args:
            commands: (k, n) rad.
            openings: (k,) or (k, arms) m; None when there is no gripper to judge.
            table_every: The distance to the table is taken at every so many commands: at 0.5 m/s it changes by 5 mm
                between two commands.
            moving: The arm was under way before the first, in a way that is not known; else it stood still there.
        """
        q = np.atleast_2d(np.asarray(commands, dtype=np.float64))
        finite = np.isfinite(q).all(axis=1)
        result = Judgement(len(q))
        result.violations["not_finite"] = int((~finite).sum())
        q = q[finite]
        if len(q):
            self._judge_joints(q, result, moving)
            self._judge_places(q, result, table_every)
        if openings is not None:
            self._judge_gripper(np.asarray(openings, dtype=np.float64), result)
        return result

    def judge_timed(
        self, times: FloatArray, commands: FloatArray, velocities: FloatArray | None = None,
        horizons: FloatArray | float = 0.0, *, accelerations: FloatArray | None = None,
        stamps: FloatArray | float = 0.0, openings: FloatArray | None = None, armings: Sequence[Arming] = (),
        controllers: Sequence[TrajectoryControllerModel] = CONTROLLERS,
    ) -> Judgement:  # fmt: skip
        """Judge commands of one point each, with the times at which controllers received them.

        Args:
            times: (k,) s, of arrival, not falling.
            commands: (k, n) rad; what is not finite is counted, and left out of everything else.
            velocities: (k, n) rad/s, or None for commands without.
            horizons: (k,) or one for all, s: `time_from_start` of each.
            accelerations: (k, n) rad/s^2, or None for commands without.
            stamps: (k,) or one for all, s: of the header; 0 stands for the arrival.
            openings: As for `judge`; they are taken for equally spaced.
            armings: When the robot was armed, and where it was then.
            controllers: Each judges on its own; what all of them find is added up.
        """
        q = np.atleast_2d(np.asarray(commands, dtype=np.float64))
        rows = len(q)
        horizons, stamps = np.broadcast_to(horizons, rows), np.broadcast_to(stamps, rows)
        trajectories = [
            TimedTrajectory(
                float(times[i]), float(stamps[i]), np.array([horizons[i]]), q[i : i + 1],
                None if velocities is None else velocities[i : i + 1],
                None if accelerations is None else accelerations[i : i + 1],
            )
            for i in range(rows)
        ]  # fmt: skip
        return self.judge_trajectories(trajectories, openings=openings, armings=armings, controllers=controllers)

    def judge_trajectories(
        self, trajectories: Sequence[TimedTrajectory], *, openings: FloatArray | None = None,
        armings: Sequence[Arming] = (), start: FloatArray | None = None,
        controllers: Sequence[TrajectoryControllerModel] = CONTROLLERS, table_every: int = 5,
        unheard: Sequence[int] = (),
    ) -> Judgement:  # fmt: skip
        """Judge received trajectories: where their commands lead, and the references that controllers make of them.

        Args:
            trajectories: In the order of their arrival; one with values that are not finite is counted and left out.
            openings: As for `judge`; they are taken for equally spaced.
            armings: When the robot was armed, and where it was then. From there a reference starts over: at the last
                command where the robot still stands at it, and where the robot is otherwise.
            start: (n,) rad, the reference before the first; by default where the first leads.
            controllers: Each judges on its own; what all of them find is added up.
            table_every: As for `judge`.
            unheard: Indices of the trajectories, rising, before which some are missing that a controller may well have
                followed: what it made of those is not known, and its reference starts over as the next one stands.
        """
        result = Judgement(len(trajectories))
        finite = [one for one in trajectories if _finite(one)]
        result.violations["not_finite"] = len(trajectories) - len(finite)
        if finite:
            places = np.array([commanded(one) for one in finite])
            self._judge_position_limits(places, result)
            self._judge_places(places, result, table_every, speeds=False)
            result.violations["arming_jump"] = judge_armings(finite, armings, self._contract.joints)
            after_gap = {id(trajectories[index]) for index in unheard}
            for begin, session in _sessions(finite, armings):
                first = begin if begin is not None else (places[0] if start is None else start)
                for known, piece in _pieces(session, after_gap):
                    for model in controllers:
                        found = judge_reference(piece, self._contract.joints, first if known else None, model)
                        result.add(Judgement(0, dict.fromkeys(KINDS, 0) | found.violations, found.worst))
        if openings is not None:
            self._judge_gripper(np.asarray(openings, dtype=np.float64), result)
        return result

    def _judge_position_limits(self, q: FloatArray, result: Judgement) -> None:
        joints = self._contract.joints
        outside = np.maximum(joints.lower - q, q - joints.upper).max(axis=1)
        result.violations["joint_position"] = int((outside > ROUNDING).sum())

    def _judge_joints(self, q: FloatArray, result: Judgement, moving: bool) -> None:
        joints = self._contract.joints
        self._judge_position_limits(q, result)
        rows = q if moving else np.vstack([np.tile(q[0], (3, 1)), q])
        for kind, order, limit in (
            ("joint_velocity", 1, joints.velocity), ("joint_acceleration", 2, joints.acceleration),
            ("joint_jerk", 3, joints.jerk),
        ):  # fmt: skip
            share = (np.abs(np.diff(rows, n=order, axis=0)) / self.period**order / limit).max(axis=1)
            result.violations[kind] = int((share > 1.0 + ROUNDING).sum())
            result.worst[kind] = float(share.max(initial=0.0))

    def _judge_places(self, q: FloatArray, result: Judgement, table_every: int, speeds: bool = True) -> None:
        tools, clearances, gaps, between = np.empty((len(q), len(self._tools), 3)), [], [], []
        self._open_fingers()
        for i, row in enumerate(q):
            self._data.qpos[self._arm] = row
            mujoco.mj_kinematics(self._model, self._data)
            tools[i] = self._data.xpos[self._tools]
            if i % table_every == 0:
                clearances.append(self._clearance())
                gaps.append(self._nearest(self._pairs))
                between.append(self._nearest(self._pairs_of_arms))
        result.violations["table"] = int((np.array(clearances) < 0.0).sum())
        result.violations["self_collision"] = int((np.array(gaps) < TOUCHING).sum())
        result.violations["arm_collision"] = int((np.array(between) < TOUCHING).sum())
        result.worst["self_mm"] = 1e3 * min(gaps)
        result.worst["table_mm"] = 1e3 * min(clearances)
        if self._pairs_of_arms:
            result.worst["arms_mm"] = 1e3 * min(between)
        self._judge_tools(tools, result, speeds)

    def _judge_tools(self, tools: FloatArray, result: Judgement, speeds: bool) -> None:
        """Judge where the tools (k, arms, 3) m are, each in the workspace of its arm, and how fast, where asked for."""
        boxes = [arm.cartesian for arm in self._contract.arms]
        lower = np.array([box.workspace_lower for box in boxes])
        upper = np.array([box.workspace_upper for box in boxes])
        beyond = np.maximum(lower - tools, tools - upper).max(axis=(1, 2))
        result.violations["workspace"] = int((beyond > WORKSPACE_SLACK).sum())
        result.worst["beyond_workspace_mm"] = 1e3 * max(float(beyond.max()), 0.0)
        if speeds:
            fastest = np.linalg.norm(np.diff(tools, axis=0), axis=2).max(axis=0, initial=0.0) / self.period
            result.worst["tool_speed"] = float((fastest / [box.linear_velocity for box in boxes]).max())

    def _nearest(self, pairs: Sequence[tuple[int, int]]) -> float:
        """Return the smallest distance of these pairs of geoms, m; inf without any."""
        return min((self._distance(*pair) for pair in pairs), default=np.inf)

    def _clearance(self) -> float:
        """Return the smallest distance of a moving part to the table, m; negative inside of it."""
        return float(
            min(mujoco.mj_geomDistance(self._model, self._data, geom, self._table, 2.0, None) for geom in self._parts)
        )

    def _judge_gripper(self, openings: FloatArray, result: Judgement) -> None:
        """Judge openings (k,) or (k, arms) m."""
        grippers = [arm.gripper for arm in self._contract.arms]
        openings = openings.reshape(-1, len(grippers))
        finite = np.isfinite(openings).all(axis=1)
        result.violations["not_finite"] += int((~finite).sum())
        openings = openings[finite]
        least, most = (np.array([getattr(one, line) for one in grippers]) for line in ("min_opening", "max_opening"))
        inside = (openings >= least - ROUNDING) & (openings <= most + ROUNDING)
        result.violations["gripper_range"] = int((~inside).any(axis=1).sum())
        limits = np.array([one.velocity for one in grippers])
        too_fast = np.abs(np.diff(openings, axis=0)) / self.period > limits * (1.0 + ROUNDING)
        result.violations["gripper_velocity"] = int(too_fast.any(axis=1).sum())


def _finite(trajectory: TimedTrajectory) -> bool:
    values = (trajectory.times, trajectory.positions, trajectory.velocities, trajectory.accelerations)
    return all(bool(np.isfinite(one).all()) for one in values if one is not None)


def _pieces(
    session: Sequence[TimedTrajectory], after_gap: Set[int]
) -> Iterator[tuple[bool, Sequence[TimedTrajectory]]]:
    """Yield what was heard without a gap, and whether it is known where the reference was before."""
    cuts = [i for i, one in enumerate(session) if id(one) in after_gap]
    for begin, end in pairwise([0, *(cut for cut in cuts if cut), len(session)]):
        yield begin == 0 and cuts[:1] != [0], session[begin:end]


def _sessions(
    trajectories: Sequence[TimedTrajectory], armings: Sequence[Arming]
) -> list[tuple[FloatArray | None, list[TimedTrajectory]]]:
    """Return what was commanded from each arming on, with where the robot was; None before the first arming."""
    sessions: list[tuple[FloatArray | None, list[TimedTrajectory]]] = [(None, [])]
    coming = list(armings)
    for one in trajectories:
        while coming and coming[0].time <= one.arrival:
            arming = coming.pop(0)
            near = arming.commanded is not None and np.abs(arming.commanded - arming.position).max() < SAME_POSTURE
            sessions.append((arming.commanded if near else arming.position, []))
        sessions[-1][1].append(one)
    return [session for session in sessions if session[1]]
