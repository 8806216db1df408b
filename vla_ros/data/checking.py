"""Check applied to every reader: it yields sound steps, or raises a `DataError` with the reason.

An episode whose timestamps or motion are impossible for its data set is rejected alone; a reader of the whole set may
skip it.

=================  =====================================================================================
checked            sound if
=================  =====================================================================================
times              each advances by more than 0 and at most `MAX_GAP` periods, most by about one
measured motion    the tool is within `REACH_MARGIN` of the workspace, and no faster than the limits allow
measured pose      it agrees with forward kinematics, if the data set measures the robot's joints
commanded motion   it starts at the tool, and is no faster than the limits allow
direction          the tool moves, and the gripper opens, mostly in the commanded direction
size               relative and delta commands match the motion that follows in size, within `SIZE_FACTOR`
opening            the gripper's opening is at most `OPENING_FACTOR` times the robot's maximum opening
joints             measured and commanded positions are within `JOINT_MARGIN` of their limits
=================  =====================================================================================

Motion is checked if limits are given: those of the robot times `SPEED_FACTOR`. Demonstrations may be faster than the
robot is allowed to be, but millimeters, degrees and swapped columns are off by far more.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vla_ros.actions.decoding import decode
from vla_ros.actions.groups import TOOL_FRAME, Quantity, Reference
from vla_ros.actions.rotation_vectors import rotation_vector_from_matrix
from vla_ros.actions.rotations import Rotation, matrix_from_quaternion
from vla_ros.data.errors import DamagedDataError, DataError, UnusableEpisodeError
from vla_ros.data.foreign.agreement import DirectionAgreement, SizeAgreement
from vla_ros.data.foreign.measured_arms import measured_arms
from vla_ros.data.reader import DatasetDescription, EpisodeReader
from vla_ros.data.step import GRIPPER_FRACTION, GRIPPER_NAME, Step
from vla_ros.errors import VlaError
from vla_ros.types import FloatArray, Pose

MAX_GAP = 3.5
"""Maximum time between two steps of an episode, periods."""

USUAL_PERIODS = (0.75, 1.5)
"""Range of the median time between two steps, periods."""

MIN_INTERVALS = 4
"""Minimum number of times between steps for a meaningful median."""

SPEED_FACTOR = 4.0
"""Maximum ratio of a demonstrated speed to the robot's velocity limit."""

REACH_MARGIN = 1.0
"""Maximum distance of a measured position outside the workspace, m."""

JOINT_MARGIN = 0.35
"""Maximum distance of joints outside their limits, rad: their zero may be calibrated differently."""

LEAD = 0.1
"""Time by which a command may be ahead of the measurement, s; one period if that is longer."""

SLACK = (0.01, 0.05)
"""Measurement noise, m and rad."""

TOOL_TOLERANCE = (0.05, 0.2)
"""Maximum error of forward kinematics, m and rad: descriptions and calibrations of the tool differ."""

POSES_COMPARED = 16
"""Sampling interval of the comparison with forward kinematics, steps."""

SIGNIFICANT = (0.002, 0.01)
"""Minimum commanded and measured motion for a comparison of directions, m and rad."""

MIN_MOTIONS = 10
"""Minimum number of significant motions for a meaningful mean direction."""

SIGNIFICANT_OPENING = 0.02
"""Minimum gripper motion for a comparison of directions, as a fraction of the full opening."""

MIN_OPENINGS = 4
"""Minimum number of significant gripper motions, which are rare, for a meaningful mean direction."""

MEASURABLE = (0.01, 0.05)
"""Minimum measured motion over some steps for a comparison of its size with the commands', m and rad."""

MIN_SIZES = 3
"""Minimum number of such motions for a meaningful median ratio."""

SIZE_FACTOR = 15.0
"""Maximum median ratio of commanded to measured motion: a lag of a few periods passes, a factor of 57 (degrees) not."""

OPENING_FACTOR = 2.0
"""Maximum ratio of a measured opening to the full one: grippers differ, but millimeters are off by a factor of 1000."""

AGREEMENT = 0.2
"""Minimum mean cosine between the commanded and the measured direction."""


@dataclass(frozen=True)
class MotionLimits:
    """Motion limits of a robot.

    Attributes:
        linear_velocity: Maximum speed of the tool, m/s.
        angular_velocity: Maximum angular speed of the tool, rad/s.
        workspace_lower: Lower corner (3,) of the tool's workspace, base frame, m.
        workspace_upper: Upper corner (3,), likewise.
        joint_names: Names of the joints as a data set may measure them, one arm after another.
        forward: Forward kinematics from these joints, rad, to the pose of the tool, base frame; None: not compared.
        joint_lower: Lower position limits (n,) of the joints, rad; empty: not compared.
        joint_upper: Upper position limits (n,), likewise.
        max_opening: Maximum opening of the gripper, m; None: not compared.
        arms: Slice of each arm's joints among all; empty: all belong to the only arm.
    """

    linear_velocity: float
    angular_velocity: float
    workspace_lower: FloatArray
    workspace_upper: FloatArray
    joint_names: tuple[str, ...] = ()
    forward: Callable[[FloatArray], Pose] | None = None
    joint_lower: FloatArray = field(default_factory=lambda: np.zeros(0))
    joint_upper: FloatArray = field(default_factory=lambda: np.zeros(0))
    max_opening: float | None = None
    arms: Mapping[str, slice] = field(default_factory=dict)


@dataclass(frozen=True)
class _Command:
    """Command of a step relative to the tool's pose: translation, m, rotation vector, rad, and opening, m."""

    moved: FloatArray
    turned: FloatArray
    opening: float | None


@contextmanager
def only_data_errors(where: str) -> Iterator[None]:
    """Convert the errors that reading a file can raise into `DataError`s that begin with `where`."""
    try:
        yield
    except (DataError, MemoryError):
        raise
    except VlaError as error:
        raise DataError(f"{where}: {error}") from error
    except Exception as error:
        raise DamagedDataError(
            f"{where} cannot be read: {error!r}; it is damaged or laid out in another way"
        ) from error


def open_checked(
    reader: Callable[..., EpisodeReader], path: object, options: dict[str, Any], kind: str
) -> CheckedReader:
    """Return the reader of `path`, checked.

    Raises:
        DataError: when the reader does not take an option, or cannot open the data set.
    """
    try:
        inspect.signature(reader).bind(path, **options)
    except TypeError as error:
        raise DataError(f"format '{kind}' does not take the options {sorted(options)}: {error}") from error
    with only_data_errors(str(path)):
        return CheckedReader(reader(path, **options))


class CheckedReader:
    """`EpisodeReader` that checks another one, and passes sound steps on unchanged."""

    def __init__(self, reader: EpisodeReader, limits: MotionLimits | None = None) -> None:
        """Wrap a reader; motion is checked if `limits` are given."""
        self._reader, self._limits = reader, limits

    @property
    def description(self) -> DatasetDescription:
        """Description that applies to every step."""
        return self._reader.description

    @property
    def episodes(self) -> Sequence[str]:
        """Names of the episodes."""
        return self._reader.episodes

    def read(self, episode: str, *, images: bool = True) -> Iterator[Step]:
        """Yield the steps of an episode.

        Raises:
            UnusableEpisodeError: at the step whose time or motion is impossible, or after the last one.
            DataError: when the episode cannot be read; errors of other types are converted to it.
        """
        check = EpisodeCheck(self.description, episode, self._limits)
        with only_data_errors(f"{self.description.name}, episode '{episode}'"):
            for step in self._reader.read(episode, images=images):
                check.take(step)
                yield step
            check.finish()


class EpisodeCheck:
    """Checks the steps of one episode in order; stores statistics and the last step only."""

    def __init__(self, description: DatasetDescription, episode: str, limits: MotionLimits | None) -> None:
        """Begin before the first step."""
        self._where = f"{description.name}, episode '{episode}'"
        self._column = description.time_column
        self._convention, self._opening = description.convention, description.max_opening or 1.0
        self._limits = limits
        self._of_joints = self._convention.of_joints
        self._intervals: list[float] = []
        self._before: tuple[Step, _Command | None] | None = None
        self._directions = tuple(DirectionAgreement(least) for least in (*SIGNIFICANT, SIGNIFICANT_OPENING))
        self._sizes = tuple(SizeAgreement(least) for least in MEASURABLE)

    def take(self, step: Step) -> None:
        """Check the next step.

        Raises:
            UnusableEpisodeError: when its time does not follow the last one, or the robot cannot make its motion.
        """
        elapsed = self._elapsed(step)
        commanded = None
        if self._limits is not None:
            self._check_measured(step, elapsed)
            self._check_opening(step)
            if self._of_joints:
                self._check_joints(step)
            else:
                commanded = self._commanded(step)
        self._before = (step, commanded)

    def finish(self) -> None:
        """Check the episode as a whole.

        Raises:
            UnusableEpisodeError: when its rate differs from the convention, or the tool does not follow its commands.
        """
        period = self._convention.period
        if len(self._intervals) >= MIN_INTERVALS:
            usual = float(np.median(self._intervals))
            if not USUAL_PERIODS[0] <= usual / period <= USUAL_PERIODS[1]:
                raise UnusableEpisodeError(
                    f"{self._where}: by {self._column} its steps are {usual:.4g} s apart, at "
                    f"{self._convention.rate_hz} Hz {period:.4g} s are expected; is it in seconds, and the rate right?"
                )
        self._check_directions()
        self._check_sizes()

    def _check_directions(self) -> None:
        for agreement, what, fewest in zip(
            self._directions,
            ("the tool moves", "the tool turns", "the gripper opens and closes"),
            (MIN_MOTIONS, MIN_MOTIONS, MIN_OPENINGS),
            strict=True,
        ):
            if agreement.count >= fewest and not agreement.cosine >= AGREEMENT:
                raise UnusableEpisodeError(
                    f"{self._where}: {what} elsewhere than it is sent (mean cosine {agreement.cosine:.2f} of "
                    f"{agreement.count} motions, expected at least {AGREEMENT}); look at signs, axes and reference of "
                    "the actions, at the gripper's convention, and at the quaternion's order, (x, y, z, w)"
                )

    def _check_sizes(self) -> None:
        if self._of_joints or self._convention.only_motion.reference is Reference.ABSOLUTE:
            return  # a constant offset between commanded and measured tool is not a wrong unit
        # A tool may turn without a commanded rotation, as a side effect of its position control.
        for agreement, what, fewest, units in zip(
            self._sizes, ("moves", "turns"), (1.0 / SIZE_FACTOR, 0.0), ("meters", "radians"), strict=True
        ):
            if agreement.count >= MIN_SIZES and not fewest <= agreement.ratio <= SIZE_FACTOR:
                raise UnusableEpisodeError(
                    f"{self._where}: the tool is sent {agreement.ratio:.3g} times as far as it {what} (median of "
                    f"{agreement.count} motions, expected at most {SIZE_FACTOR:g} times"
                    + (f" and at least {fewest:.2g}" if fewest else "")
                    + f"); are the actions in {units}, not normalized, and those of these steps?"
                )

    def _elapsed(self, step: Step) -> float:
        if self._before is None:
            return 0.0
        elapsed, period = step.timestamp - self._before[0].timestamp, self._convention.period
        if not 0.0 < elapsed <= MAX_GAP * period:
            raise UnusableEpisodeError(
                f"{self._where}, step {step.index}: by {self._column} it is {elapsed:.4g} s behind the step before, "
                f"expected about {period:.4g} s: times advance by one period, in seconds"
            )
        self._intervals.append(elapsed)
        return elapsed

    def _check_measured(self, step: Step, elapsed: float) -> None:
        assert self._limits is not None
        pose = step.end_effector
        if pose is None:
            return
        lower, upper = self._limits.workspace_lower - REACH_MARGIN, self._limits.workspace_upper + REACH_MARGIN
        if not ((pose.position >= lower) & (pose.position <= upper)).all():
            raise UnusableEpisodeError(
                f"{self._where}, step {step.index}: the tool is at {np.round(pose.position, 4).tolist()} m, expected "
                f"within {REACH_MARGIN} m of the workspace {self._limits.workspace_lower.tolist()} to "
                f"{self._limits.workspace_upper.tolist()}; is it in meters, in the frame of the robot's base?"
            )
        if step.index % POSES_COMPARED == 0:
            self._check_kinematics(step, pose)
        if self._before is None or (start := self._before[0].end_effector) is None:
            return
        moved, turned = _motion(start, pose)
        self._check_speed(step, moved, turned, elapsed, "moved", "since the step before")
        if (command := self._before[1]) is not None:
            sent = (command.moved, command.turned)
            for direction, size, asked, went in zip(self._directions, self._sizes, sent, (moved, turned), strict=False):
                direction.add(asked, went)
                size.add(asked, went)

    def _check_opening(self, step: Step) -> None:
        assert self._limits is not None
        opening, full = self._measured_opening(step)
        if opening is None or full is None:
            return
        if not -OPENING_FACTOR * full <= opening <= OPENING_FACTOR * full:
            unit = "m" if GRIPPER_NAME in step.proprioception_names else "of 1"
            raise UnusableEpisodeError(
                f"{self._where}, step {step.index}: the gripper is open by {opening:.4g} {unit}, expected at most "
                f"about {full:.4g}; is it the distance between the fingers in meters, or a fraction of the full one?"
            )
        if self._before is None or (command := self._before[1]) is None or command.opening is None:
            return
        before, _ = self._measured_opening(self._before[0])
        if before is not None:
            asked = command.opening / self._opening - before / full
            self._directions[2].add(np.array([asked]), np.array([(opening - before) / full]))

    def _measured_opening(self, step: Step) -> tuple[float | None, float | None]:
        """Return the gripper's opening and its maximum, both in m or both as fractions; None if unknown."""
        assert self._limits is not None
        names = step.proprioception_names
        for name, full in ((GRIPPER_NAME, self._limits.max_opening), (GRIPPER_FRACTION, 1.0)):
            if name in names:
                return float(step.proprioception[names.index(name)]), full
        return None, None

    def _check_kinematics(self, step: Step, pose: Pose) -> None:
        assert self._limits is not None
        names, forward, measured = self._limits.joint_names, self._limits.forward, step.proprioception_names
        if forward is None or not names or not set(names) <= set(measured):
            return
        joints = step.proprioception[[measured.index(name) for name in names]]
        off = [float(np.linalg.norm(motion)) for motion in _motion(forward(joints), pose)]
        if not (off[0] <= TOOL_TOLERANCE[0] and off[1] <= TOOL_TOLERANCE[1]):
            raise UnusableEpisodeError(
                f"{self._where}, step {step.index}: the tool is {off[0]:.3f} m and {off[1]:.2f} rad off from where the "
                f"joints put it, expected at most {TOOL_TOLERANCE[0]} m and {TOOL_TOLERANCE[1]} rad; is the quaternion "
                "(x, y, z, w), the position in meters and in the base frame, the joints in radians, the tool the same?"
            )

    def _check_joints(self, step: Step) -> None:
        """Raise if measured or commanded joints are far outside their limits."""
        assert self._limits is not None
        limits, arms = self._limits, self._convention.arms
        own = {arm: limits.arms.get(arm, slice(None)) for arm in arms}
        measured = measured_arms(step, self._opening, {arm: limits.joint_names[own[arm]] for arm in arms})
        for arm in arms:
            lower, upper = limits.joint_lower[own[arm]] - JOINT_MARGIN, limits.joint_upper[own[arm]] + JOINT_MARGIN
            motion = self._convention.motion(arm)
            found = {"measured": measured[arm].joint_positions}
            if motion.quantity is Quantity.JOINT_POSITION:
                found["commanded"] = motion.to_si(step.action[self._convention.columns[motion.name]])
            for what, joints in found.items():
                if joints is None or joints.shape != lower.shape:
                    continue
                if not ((joints >= lower) & (joints <= upper)).all():
                    ends = np.round([lower + JOINT_MARGIN, upper - JOINT_MARGIN], 3).tolist()
                    raise UnusableEpisodeError(
                        f"{self._where}, step {step.index}: the joints {what} are {np.round(joints, 3).tolist()} rad, "
                        f"expected within {JOINT_MARGIN} rad of the limits {ends[0]} to {ends[1]}; are the unit of "
                        "the convention and the order of the joints right?"
                    )

    def _commanded(self, step: Step) -> _Command | None:
        """Return the command of a step; None if it depends on a tool pose that was not measured."""
        convention, pose = self._convention, step.end_effector
        motion = convention.only_motion
        if pose is None and (motion.reference is Reference.ABSOLUTE or motion.frame == TOOL_FRAME):
            return None
        start = pose or Pose(np.zeros(3), np.array([0.0, 0.0, 0.0, 1.0]))
        if motion.rotation is Rotation.ROTATION_VECTOR:
            angle = float(np.linalg.norm(motion.to_si(step.action[convention.columns[motion.name]])[3:]))
            if angle > 2.0 * np.pi + SLACK[1]:
                raise UnusableEpisodeError(
                    f"{self._where}, step {step.index}: the rotation of its action is {angle:.4g} rad, expected at "
                    "most a whole turn; is it in degrees?"
                )
        plan = decode(step.action[None], convention, start, self._opening)
        moved, turned = _motion(start, Pose(plan.positions[0], plan.quaternions[0]))
        self._check_speed(step, moved, turned, max(convention.period, LEAD), "is sent", "from where it is")
        return _Command(moved, turned, None if plan.openings is None else float(plan.openings[0]))

    def _check_speed(
        self, step: Step, moved: FloatArray, turned: FloatArray, elapsed: float, verb: str, since: str
    ) -> None:
        assert self._limits is not None
        for motion, limit, slack, unit, mistake in (
            (moved, self._limits.linear_velocity, SLACK[0], "m", "millimeters"),
            (turned, self._limits.angular_velocity, SLACK[1], "rad", "degrees, or a quaternion that begins with w"),
        ):
            size, most = float(np.linalg.norm(motion)), SPEED_FACTOR * limit * elapsed + slack
            if not size <= most:
                raise UnusableEpisodeError(
                    f"{self._where}, step {step.index}: the tool {verb} {size:.4g} {unit} {since} in {elapsed:.3g} s, "
                    f"which is no motion of this robot ({limit} {unit}/s; at most {most:.4g} {unit} expected); are "
                    f"these {mistake}, or is the convention another?"
                )


def _motion(start: Pose, end: Pose) -> tuple[FloatArray, FloatArray]:
    """Return the translation (3,) m and the rotation vector (3,) rad from one pose to another, base frame."""
    turn = matrix_from_quaternion(end.quaternion) @ matrix_from_quaternion(start.quaternion).T
    return np.asarray(end.position - start.position), rotation_vector_from_matrix(turn)
