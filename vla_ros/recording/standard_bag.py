"""Convert a recording of a robot's own topics to steps.

Sensors are read as by the perception node, commands by kinematics. A step is an observation and the commanded tool pose
one period later. The topics are those of the contract:

=====================  ==========================================================  ==============================
what                   type                                                        topic
=====================  ==========================================================  ==============================
images                 Image; CompressedImage on the same topic or below it        cameras.<name>.topic
joints and gripper     JointState                                                  controllers.joint_states_topic
arm commands           JointTrajectory, or PoseStamped (`arm_interface: pose`)     controllers.arm_topic
gripper commands       JointTrajectory; else the measured opening                  controllers.gripper_topic
instruction            String                                                      /vla/instruction, or the only one
=====================  ==========================================================  ==============================

Observations are thinned to the contract's rate. An observation without a command is not a step.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from geometry_msgs.msg import PoseStamped
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CompressedImage, Image, JointState
from std_msgs.msg import String
from trajectory_msgs.msg import JointTrajectory

from vla_ros.actions.decoding import PoseTrajectory, encode
from vla_ros.data.errors import DataError, MissingColumnError
from vla_ros.data.step import GRIPPER_NAME, POSE_NAMES, Step
from vla_ros.errors import ObservationError
from vla_ros.perception.assembler import Assembler, ObservationLimits
from vla_ros.recording.bag_files import RawMessage
from vla_ros.robot.contract import ArmInterface, RobotContract
from vla_ros.robot.joint_states.reader import JointStateReader
from vla_ros.robot.joint_states.report import JointReading, JointReportError
from vla_ros.robot.kinematics import Kinematics
from vla_ros.ros.messages.conversions import camera_image_to_array, message_to_pose, stamp_to_seconds
from vla_ros.ros.perception_inputs import add_joint_state, state_between
from vla_ros.types import FloatArray, Observation, Pose

INSTRUCTION_TOPIC = "/vla/instruction"
COMPRESSED = "/compressed"
KINDS: Mapping[str, type] = {
    "sensor_msgs/msg/Image": Image,
    "sensor_msgs/msg/CompressedImage": CompressedImage,
    "sensor_msgs/msg/JointState": JointState,
    "trajectory_msgs/msg/JointTrajectory": JointTrajectory,
    "geometry_msgs/msg/PoseStamped": PoseStamped,
    "std_msgs/msg/String": String,
}
NOT_INSTRUCTIONS = ("/robot_description", "/rosout", "/vla/instruction_rejected")
NS = 1e-9
COMMAND_SLACK = 0.5
"""Delay within which a command still answers an observation, in periods."""

EARLY = 0.25
"""Earliness at which an observation still counts as the next step, in periods."""

COMMANDS_KEPT = 256
"""Maximum number of trajectories kept: more than any controller receives per period."""


@dataclass(frozen=True)
class BagTopics:
    """Topics of a recording by content."""

    cameras: Mapping[str, str]
    joints: str
    arm: str
    gripper: str | None
    instruction: str | None

    @property
    def all(self) -> list[str]:
        """All topics that are read."""
        rest = (self.joints, self.arm, self.gripper, self.instruction)
        return [*self.cameras.values(), *(topic for topic in rest if topic is not None)]


def find_topics(found: Mapping[str, str], contract: RobotContract, where: str) -> BagTopics:
    """Find the recorded topics (name to type) that correspond to the contract.

    Raises:
        MissingColumnError: lists the missing topics and the recorded ones.
    """
    controllers, lacking = contract.controllers, list[str]()
    cameras = {}
    for camera in contract.cameras:
        raw = camera.topic.removesuffix(COMPRESSED)
        names = (raw, raw + COMPRESSED)
        topic = next((n for n in names if found.get(n, "").endswith(("/Image", "/CompressedImage"))), None)
        if topic is None:
            lacking.append(f"{raw} (Image, or CompressedImage there or on {names[1]})")
        else:
            cameras[camera.name] = topic
    kind = "PoseStamped" if controllers.arm_interface is ArmInterface.POSE else "JointTrajectory"
    for topic, wanted in ((controllers.joint_states_topic, "JointState"), (controllers.arm_topic, kind)):
        if not found.get(topic, "").endswith("/" + wanted):
            lacking.append(f"{topic} ({wanted})")
    if controllers.arm_interface is ArmInterface.TWIST:
        lacking.append("commands that say where the tool is sent: twists (arm_interface) do not")
    if lacking:
        raise MissingColumnError(
            f"{where}: robot '{contract.name}' needs {'; '.join(lacking)}; recorded are "
            f"{dict(sorted(found.items()))}. Give the contract of the robot that was recorded (--robot)"
        )
    gripper = controllers.gripper_topic
    texts = [name for name, one in found.items() if one.endswith("/String") and name not in NOT_INSTRUCTIONS]
    only = texts[0] if len(texts) == 1 else None
    return BagTopics(
        cameras,
        controllers.joint_states_topic,
        controllers.arm_topic,
        gripper if found.get(gripper, "").endswith("/JointTrajectory") else None,
        INSTRUCTION_TOPIC if INSTRUCTION_TOPIC in texts else only,
    )


class StandardAssembler:
    """Takes the messages of one recording in order, and yields its steps."""

    def __init__(
        self, contract: RobotContract, topics: BagTopics, episode: str, task: str, instruction: str | None
    ) -> None:
        """Begin a recording; `instruction` replaces recorded instructions."""
        self._contract, self._topics, self._episode, self._task = contract, topics, episode, task
        self._instruction, self._spoken = instruction or "", instruction is not None
        self._convention = replace(contract.action, horizon=1)
        self._names = (*contract.joints.names, *POSE_NAMES, GRIPPER_NAME)
        kinematics = Kinematics(contract)
        self._reader = JointStateReader(contract)
        limits = ObservationLimits(skew=max(0.05, 0.75 * max(1.0 / camera.rate_hz for camera in contract.cameras)))
        self._assembler: Assembler[JointReading] = Assembler(contract.cameras, state_between(kinematics), limits)
        self._of_topic = {topic: name for name, topic in topics.cameras.items()}
        self._arm = _Commands(contract.joints.names, contract, kinematics)
        self._hand = _Commands(contract.gripper.names, contract, kinematics)  # gets no commands without a gripper
        self._waiting: deque[tuple[Observation, str]] = deque()
        self._last_kept = -np.inf
        self._sequence, self._count = 0, 0
        self._first = 0.0
        self._skew = 0.0  # sensor stamps minus the recorder's clock, s

    def take(self, message: RawMessage) -> Iterator[Step]:
        """Take a message and yield the steps that it completes.

        Raises:
            DataError: when it is invalid for its type.
        """
        received = message.received * NS
        kind = KINDS.get(message.kind)
        if kind is None:
            raise DataError(f"{message.topic} is of type {message.kind}, expected one of {sorted(KINDS)}")
        content = deserialize_message(message.content, kind)
        topic = message.topic
        if topic == self._topics.joints:
            self._state(content, received)
        elif topic in self._of_topic:
            self._picture(self._of_topic[topic], content, received)
        elif topic == self._topics.arm:
            self._arm.add(content, received, self._skew)
        elif topic == self._topics.gripper:
            self._hand.add(content, received, self._skew)
        elif topic == self._topics.instruction and not self._spoken:
            self._instruction = str(content.data)
        self._observe(received)
        yield from self._decide(received + self._skew)

    def finish(self) -> Iterator[Step]:
        """Yield the remaining steps at the end of the recording."""
        yield from self._decide(np.inf)

    def _state(self, message: JointState, received: float) -> None:
        try:
            reading = add_joint_state(self._assembler, self._reader, _at_rest(message), received)
        except JointReportError as error:
            raise DataError(f"{self._topics.joints}: {error}") from error
        if reading is not None:
            self._skew = stamp_to_seconds(message.header.stamp) - received

    def _picture(self, camera: str, message: Any, received: float) -> None:  # noqa: ANN401 (one of two messages)
        stamp, frame = stamp_to_seconds(message.header.stamp), message.header.frame_id
        try:
            image = np.array(camera_image_to_array(message, self._contract.camera(camera)))
        except ObservationError as error:
            self._assembler.reject_image(camera, str(error), received)
            return
        self._assembler.add_image(camera, stamp, frame, image, received)

    def _observe(self, received: float) -> None:
        taken = self._assembler.take(self._sequence, received)
        if taken is None:
            return
        observation, period = taken[0], self._convention.period
        if observation.stamp < self._last_kept + (1.0 - EARLY) * period:
            return
        # a regular grid if the cameras are faster than the steps, otherwise the cameras' own times
        grid = self._last_kept + period
        self._last_kept = grid if abs(observation.stamp - grid) <= EARLY * period else observation.stamp
        self._sequence += 1
        self._waiting.append((observation, self._instruction))

    def _decide(self, now: float) -> Iterator[Step]:
        period = self._convention.period
        while self._waiting and self._waiting[0][0].stamp + period < now:
            observation, instruction = self._waiting.popleft()
            after = self._waiting[0][0] if self._waiting else None
            action = self._action(observation, after)
            if action is not None:
                yield self._step(observation, instruction, action)

    def _action(self, observation: Observation, after: Observation | None) -> FloatArray | None:
        """Return the action one period later, or None if nothing was commanded."""
        period = self._convention.period
        known, due = observation.stamp + COMMAND_SLACK * period, observation.stamp + period
        pose = self._arm.pose(known, due)
        if pose is None:
            return None
        fingers = self._hand.positions(known, due)
        if fingers is not None:
            opening = self._contract.gripper.opening(fingers)
        else:
            opening = (after or observation).state.gripper_opening
        limits = self._contract.gripper
        openings = np.array([min(max(opening, limits.min_opening), limits.max_opening)])
        target = PoseTrajectory(pose.position[None], pose.quaternion[None], openings)
        return np.asarray(encode(target, self._convention, observation.state.end_effector, limits.max_opening)[0])

    def _step(self, observation: Observation, instruction: str, action: FloatArray) -> Step:
        state = observation.state
        self._first = observation.stamp if self._count == 0 else self._first
        self._count += 1
        pose = state.end_effector
        return Step(
            images=observation.images,
            instruction=instruction,
            proprioception=np.concatenate(
                [state.joint_positions, pose.position, pose.quaternion, [state.gripper_opening]]
            ),
            action=action,
            convention=self._convention,
            task=self._task,
            episode=self._episode,
            index=self._count - 1,
            timestamp=observation.stamp - self._first,
            last=False,
            success=None,
            proprioception_names=self._names,
        )


class _Commands:
    """Commands to the joints or the tool: looks up the newest one received by some time, evaluated at another."""

    def __init__(self, names: tuple[str, ...], contract: RobotContract, kinematics: Kinematics) -> None:
        self._names, self._base, self._kinematics = names, contract.base_frame, kinematics
        self._kept: deque[tuple[float, FloatArray, FloatArray | Pose]] = deque(maxlen=COMMANDS_KEPT)

    def add(self, message: JointTrajectory | PoseStamped, recorded: float, skew: float) -> None:
        """Add a command recorded at `recorded` (s, recorder's clock); the sensors' clock is ahead by `skew`, s.

        A stamp is attributed to whichever clock it is nearer to.

        Raises:
            DataError: when it is not for these joints, or in a frame other than the base.
        """
        received = recorded + skew
        if isinstance(message, PoseStamped):
            if message.header.frame_id not in ("", self._base):
                raise DataError(f"a pose is commanded in '{message.header.frame_id}', expected '{self._base}'")
            self._kept.append((received, np.zeros(1), message_to_pose(message.pose)))
            return
        names = list(message.joint_names)
        if not message.points or not set(self._names) <= set(names):
            raise DataError(f"a trajectory of {names} with {len(message.points)} points, expected {list(self._names)}")
        order = [names.index(name) for name in self._names]
        rows = np.array([[point.positions[i] for i in order] for point in message.points], dtype=np.float64)
        begin = stamp_to_seconds(message.header.stamp) or received
        if abs(begin - recorded) < abs(begin - received):
            begin += skew
        times = np.array([begin + p.time_from_start.sec + p.time_from_start.nanosec * NS for p in message.points])
        if not np.isfinite(rows).all() or (np.diff(times) <= 0.0).any():
            raise DataError(f"a trajectory of {names} with positions or times that cannot be: {rows.tolist()}")
        self._kept.append((received, times, rows))

    def _newest(self, known: float) -> tuple[FloatArray, FloatArray | Pose] | None:
        index = bisect_right([received for received, _, _ in self._kept], known) - 1
        return None if index < 0 else self._kept[index][1:]

    def positions(self, known: float, due: float) -> FloatArray | None:
        """Interpolate the joints at `due` from the newest command known at `known`; trajectory ends are held."""
        found = self._newest(known)
        if found is None or isinstance(found[1], Pose):
            return None
        times, rows = found[0], np.asarray(found[1])
        return np.array([np.interp(due, times, column) for column in rows.T])

    def pose(self, known: float, due: float) -> Pose | None:
        """Return the tool pose, looked up like `positions`."""
        found = self._newest(known)
        if found is not None and isinstance(found[1], Pose):
            return found[1]
        joints = self.positions(known, due)
        return None if joints is None else self._kinematics.forward(joints)


def _at_rest(message: JointState) -> JointState:
    """Set the velocities to zero: no step contains them, and a driver may not publish any."""
    message.velocity = [0.0] * len(message.name)
    return message
