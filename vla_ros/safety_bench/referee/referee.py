"""Checks recorded commands against every limit, independently of the safety layer's code.

Velocities, accelerations and jerks are finite differences of the commands; the positions of the tool and of the links
come from MuJoCo, whereas the safety layer uses Pinocchio and Coal.

`judge` takes equally spaced commands. `judge_timed` and `judge_trajectories` take commands with their times, and check
the references that joint trajectory controllers compute from them (`reference_limits.py`, `trajectory_controller.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, field
from itertools import combinations, pairwise, permutations, product

import mujoco
import numpy as np

from vla_ros.envs.mujoco.model import build_model
from vla_ros.robot.contract import RobotContract
from vla_ros.safety_bench.referee import reference_limits
from vla_ros.safety_bench.referee.reference_limits import CONTROLLERS, Arming, commanded, judge_armings, judge_reference
from vla_ros.safety_bench.referee.trajectory_controller import TimedTrajectory, TrajectoryControllerModel
from vla_ros.types import FloatArray

ROUNDING = 1e-6
"""Tolerance for rounding: relative for rates, m or rad for positions."""

SAME_POSTURE = 0.02
"""Maximum distance from the last command, per joint, at which its controller still holds the arm there, rad."""

WORKSPACE_SLACK = 1e-3
"""Tolerated distance of the tool beyond a workspace face, m."""

TOUCHING = -1e-3
"""Distance below which links collide, m; negative, since MuJoCo's distances between boxes and cylinders are accurate
only within it. Links nearer than its magnitude at home overlap by design, and are not checked."""

KINDS = (
    "not_finite",
    "joint_position",
    "joint_velocity",
    "joint_acceleration",
    "joint_jerk",
    "workspace",
    "table",
    "self_collision",
    "arm_collision",
    "gripper_range",
    "gripper_velocity",
    *reference_limits.KINDS,
)
"""Kinds of violations, counted per command (not per joint or arm), or as documented in `reference_limits`."""

DISTANCES = ("table_mm", "self_mm", "arms_mm")
"""Entries of `Judgement.worst` for which smaller is worse."""


@dataclass
class Judgement:
    """Findings of the referee.

    Attributes:
        commands: Number of checked commands.
        violations: Number of violating commands by kind.
        worst: Largest fraction of each joint limit (1 is at the limit) and of the tool's speed limit (no violation:
            stops are made at joint level), largest distance of the tool beyond the workspace, mm, and smallest
            distances of the arm to the table, between its links and, with several arms, between links of different
            arms, mm.
    """

    commands: int = 0
    violations: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    worst: dict[str, float] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """Number of violations of all kinds."""
        return sum(self.violations.values())

    def add(self, other: Judgement) -> None:
        """Add the findings of another recording."""
        self.commands += other.commands
        for kind, count in other.violations.items():
            self.violations[kind] += count
        for name, value in other.worst.items():
            choose = min if name in DISTANCES else max
            self.worst[name] = choose(self.worst.get(name, value), value)


class Referee:
    """Checks sequences of commands; not thread-safe."""

    def __init__(self, contract: RobotContract, period: float = 0.01) -> None:
        """Create a referee for commands `period` s apart with the limits of `contract`."""
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
        """Return the geoms carried by a joint."""
        first = self._model.joint(joint).bodyid[0]
        carried = {int(first)}
        for body in range(int(first) + 1, self._model.nbody):
            if int(self._model.body_parentid[body]) in carried:
                carried.add(body)
        return [geom for geom in range(self._model.ngeom) if int(self._model.geom_bodyid[geom]) in carried]

    def _joint_of(self, geom: int) -> int:
        """Return the index of the joint that carries a geom; -1 for the base."""
        body = int(self._model.geom_bodyid[geom])
        bodies = [int(self._model.joint(name).bodyid[0]) for name in self._contract.joints.names]
        while body and body not in bodies:
            body = int(self._model.body_parentid[body])
        return bodies.index(body) if body else -1

    def _stand_open(self) -> None:
        """Place all arms at home with their grippers fully open."""
        self._data.qpos[self._arm] = self._contract.joints.home
        self._open_fingers()
        mujoco.mj_kinematics(self._model, self._data)

    def _open_fingers(self) -> None:
        openings = [arm.gripper.max_opening for arm in self._contract.arms]
        self._data.qpos[self._fingers] = self._contract.finger_positions(openings)

    def _apart_at_home(self) -> list[tuple[int, int]]:
        """Return the pairs of links of one arm that are not adjacent, and that are apart at home."""
        carrier = {geom: self._joint_of(geom) for geom in self._parts}
        return [
            (first, second)
            for parts in self._parts_of
            for first, second in combinations(parts, 2)
            if abs(carrier[first] - carrier[second]) > 1 and self._distance(first, second) > -TOUCHING
        ]

    def _apart_between_arms(self) -> list[tuple[int, int]]:
        """Return the pairs of a link of one arm and a link, or the base, of another that are apart at home."""
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
        """Return the bodies that carry a joint, excluding the world."""
        body, carriers = int(self._model.body_parentid[self._model.joint(joint).bodyid[0]]), set[int]()
        while body:
            carriers.add(body)
            body = int(self._model.body_parentid[body])
        return carriers

    def _distance(self, first: int, second: int, most: float = 0.2) -> float:
        return float(mujoco.mj_geomDistance(self._model, self._data, first, second, most, None))

    def judge(
        self, commands: FloatArray, openings: FloatArray | None = None, *, table_every: int = 5, moving: bool = False
    ) -> Judgement:
        """Check equally spaced commands: joint positions (k, n) rad and openings, m.

        Commands that are not finite are counted, and excluded from all other checks.

        Args:
            commands: (k, n) rad.
            openings: (k,) or (k, arms) m; None when there is no gripper to check.
            table_every: Distances are computed for every n-th command: at 0.5 m/s they change by 5 mm between two
                commands.
            moving: The arm was already in unknown motion before the first command; else it was at rest there.
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
        self,
        times: FloatArray,
        commands: FloatArray,
        velocities: FloatArray | None = None,
        horizons: FloatArray | float = 0.0,
        *,
        accelerations: FloatArray | None = None,
        stamps: FloatArray | float = 0.0,
        openings: FloatArray | None = None,
        armings: Sequence[Arming] = (),
        controllers: Sequence[TrajectoryControllerModel] = CONTROLLERS,
    ) -> Judgement:
        """Check single-point commands with the times at which controllers received them.

        Args:
            times: (k,) s, arrival times, non-decreasing.
            commands: (k, n) rad; those that are not finite are counted, and excluded from all other checks.
            velocities: (k, n) rad/s, or None for commands without velocities.
            horizons: (k,) or one for all, s: `time_from_start` of each.
            accelerations: (k, n) rad/s^2, or None for commands without accelerations.
            stamps: (k,) or one for all, s: header stamps; 0 means on arrival.
            openings: As for `judge`; assumed equally spaced.
            armings: When the robot was armed, and its posture then.
            controllers: Controller models, checked separately; their findings are added up.
        """
        q = np.atleast_2d(np.asarray(commands, dtype=np.float64))
        rows = len(q)
        horizons, stamps = np.broadcast_to(horizons, rows), np.broadcast_to(stamps, rows)
        trajectories = [
            TimedTrajectory(
                float(times[i]),
                float(stamps[i]),
                np.array([horizons[i]]),
                q[i : i + 1],
                None if velocities is None else velocities[i : i + 1],
                None if accelerations is None else accelerations[i : i + 1],
            )
            for i in range(rows)
        ]
        return self.judge_trajectories(trajectories, openings=openings, armings=armings, controllers=controllers)

    def judge_trajectories(
        self,
        trajectories: Sequence[TimedTrajectory],
        *,
        openings: FloatArray | None = None,
        armings: Sequence[Arming] = (),
        start: FloatArray | None = None,
        controllers: Sequence[TrajectoryControllerModel] = CONTROLLERS,
        table_every: int = 5,
        unheard: Sequence[int] = (),
    ) -> Judgement:
        """Check received trajectories: their commands, and the references that controllers compute from them.

        Args:
            trajectories: In order of arrival; those with values that are not finite are counted and excluded.
            openings: As for `judge`; assumed equally spaced.
            armings: When the robot was armed, and its posture then. Each restarts the reference: at the last command
                if the robot is still there, else at the robot's posture.
            start: (n,) rad, the reference before the first trajectory; by default the position it commands.
            controllers: Controller models, checked separately; their findings are added up.
            table_every: As for `judge`.
            unheard: Increasing indices of trajectories that follow a gap in the recording. A controller may have
                followed the missing ones: its reference is then unknown, and restarts with the next trajectory.
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
            ("joint_velocity", 1, joints.velocity),
            ("joint_acceleration", 2, joints.acceleration),
            ("joint_jerk", 3, joints.jerk),
        ):
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
        """Check tool positions (k, arms, 3) m against the arms' workspaces, and report tool speeds if `speeds`."""
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
        """Return the smallest distance among these pairs of geoms, m; inf without pairs."""
        return min((self._distance(*pair) for pair in pairs), default=np.inf)

    def _clearance(self) -> float:
        """Return the smallest distance of a moving link to the table, m; negative in penetration."""
        return float(
            min(mujoco.mj_geomDistance(self._model, self._data, geom, self._table, 2.0, None) for geom in self._parts)
        )

    def _judge_gripper(self, openings: FloatArray, result: Judgement) -> None:
        """Check openings (k,) or (k, arms) m."""
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
    """Yield the gapless pieces of a session, each with whether the reference before it is known."""
    cuts = [i for i, one in enumerate(session) if id(one) in after_gap]
    for begin, end in pairwise([0, *(cut for cut in cuts if cut), len(session)]):
        yield begin == 0 and cuts[:1] != [0], session[begin:end]


def _sessions(
    trajectories: Sequence[TimedTrajectory], armings: Sequence[Arming]
) -> list[tuple[FloatArray | None, list[TimedTrajectory]]]:
    """Return the trajectories from each arming on, with the reference at its start; None before the first arming."""
    sessions: list[tuple[FloatArray | None, list[TimedTrajectory]]] = [(None, [])]
    coming = list(armings)
    for one in trajectories:
        while coming and coming[0].time <= one.arrival:
            arming = coming.pop(0)
            near = arming.commanded is not None and np.abs(arming.commanded - arming.position).max() < SAME_POSTURE
            sessions.append((arming.commanded if near else arming.position, []))
        sessions[-1][1].append(one)
    return [session for session in sessions if session[1]]
