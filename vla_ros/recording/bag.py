"""Recordings of the graph: one MCAP file per episode, as rosbag2 writes and plays it. Also reads `ros2 bag record`.

The file gets its final name only when complete. Besides the messages it contains the robot contract and the outcome of
the episode, so it can be read on its own. `ros2 bag play` and other MCAP tools need neither.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from mcap.exceptions import McapError
from mcap.reader import make_reader
from mcap.writer import Writer
from rclpy.serialization import deserialize_message

from vla_ros.data.assembly import EpisodeAssembler
from vla_ros.data.episodes.durable import publish
from vla_ros.data.errors import DamagedDataError, DataError, MissingColumnError, disk_full_errors
from vla_ros.data.reader import DatasetDescription
from vla_ros.data.step import GRIPPER_NAME, POSE_NAMES, Step
from vla_ros.errors import VlaError
from vla_ros.msg import ActionChunk, Instruction, Observation, PolicyStatus, SafetyStatus, TaskStatus
from vla_ros.recording.bag_files import episodes_in, read_messages, topics_of
from vla_ros.recording.standard_bag import StandardAssembler, find_topics
from vla_ros.robot.contract import RobotContract, parse_contract
from vla_ros.ros.messages.conversions import message_to_chunk, message_to_instruction, message_to_observation
from vla_ros.ros.messages.definitions import message_definition, type_name

TOPICS: Mapping[str, tuple[type, str]] = {
    "/vla/task": (Instruction, "task"),
    "/vla/observation": (Observation, "observation"),
    "/vla/action_chunk": (ActionChunk, "action_chunk"),
    "/vla/safety_status": (SafetyStatus, "status"),
    "/vla/policy_status": (PolicyStatus, "status"),
    "/vla/task_status": (TaskStatus, "status"),
}
"""Maps each topic to its type and QoS profile. Steps are built from the first three; the others are for inspection."""

STEP_TOPICS = ("/vla/task", "/vla/observation", "/vla/action_chunk")
METADATA = "vla_ros"
OUTCOMES = {"success": True, "failure": False, "unknown": None}


def feed(assembler: EpisodeAssembler, contract: RobotContract, topic: str, message: Any) -> list[Step]:  # noqa: ANN401
    """Feed one message to an assembler, live or from a recording; return the steps it completes.

    Raises:
        VlaError: when the message is invalid for its type.
    """
    if topic == "/vla/task":
        assembler.instruct(message_to_instruction(message))
    elif topic == "/vla/action_chunk":
        assembler.act(message_to_chunk(message))
    elif topic == "/vla/observation":
        return assembler.observe(message_to_observation(message, contract))
    return []


def new_assembler(contract: RobotContract, episode: str, task: str) -> EpisodeAssembler:
    """Return an assembler for a robot."""
    return EpisodeAssembler(contract.action, contract.joints.names, contract.gripper.max_opening, episode, task)


def description(contract: RobotContract, name: str) -> DatasetDescription:
    """Return the description that holds for all recordings of a robot."""
    names = (*contract.joints.names, *POSE_NAMES, GRIPPER_NAME)
    cameras = tuple(camera.name for camera in contract.cameras)
    return DatasetDescription(name, contract.action, cameras, names, contract.gripper.max_opening)


class BagWriter:
    """Writes one episode; its file appears under its name only on `finish`."""

    def __init__(self, path: Path, contract: RobotContract) -> None:
        """Open a temporary file beside the final one.

        Raises:
            DataError: when an episode of that name exists.
        """
        if path.exists():
            raise DataError(f"{path} exists already")
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path, self._partial = path, path.with_name(f".{path.name}.{os.getpid()}.partial")
        self._contract = contract
        self._file = self._partial.open("wb")
        self._writer = Writer(self._file)
        with disk_full_errors(str(path)):
            self._writer.start(profile="ros2", library="vla_ros")
            self._channels = {topic: self._channel(topic, kind) for topic, (kind, _) in TOPICS.items()}

    def _channel(self, topic: str, kind: type) -> int:
        name = type_name(kind)
        schema = self._writer.register_schema(name, "ros2msg", message_definition(name).encode())
        return int(self._writer.register_channel(topic, "cdr", schema))

    def write(self, topic: str, content: bytes, nanoseconds: int) -> None:
        """Append a serialized message received at `nanoseconds` of the wall clock.

        Raises:
            DiskFullError: when it does not fit.
        """
        with disk_full_errors(str(self._path)):
            self._writer.add_message(self._channels[topic], nanoseconds, content, nanoseconds)

    def finish(self, episode: str, task: str, success: bool | None) -> Path:
        """Close the file and rename it to its final name.

        Raises:
            DiskFullError: when it does not fit.
        """
        outcome = next(word for word, value in OUTCOMES.items() if value is success)
        with disk_full_errors(str(self._path)):
            content = {"contract": self._contract.text, "episode": episode, "task": task, "outcome": outcome}
            self._writer.add_metadata(METADATA, content)
            self._writer.finish()
            self._file.close()
            publish(self._partial, self._path)
        return self._path

    def abort(self) -> None:
        """Remove the partial file, unless it was finished."""
        with suppress(OSError):
            self._file.close()
        self._partial.unlink(missing_ok=True)


class BagReader:
    """Reads a folder of recordings; see `EpisodeReader`. Memory: one chunk of a file and the images of three steps."""

    def __init__(self, folder: Path, *, contract: RobotContract | None = None, instruction: str | None = None) -> None:
        """Find the recordings.

        Args:
            folder: Contains one file per episode, a recording of `ros2 bag record`, or several such folders.
            contract: Robot contract for recordings of other recorders, which do not contain one.
            instruction: Instruction for recordings of a robot's own topics that contain none.

        Raises:
            DataError: when there is no recording, or they are of different robots.
            MissingColumnError: when a recording does not contain the contract and none is given.
        """
        self._folder = Path(folder)
        self._paths = episodes_in(self._folder)
        if not self._paths:
            raise DataError(f"{folder} holds no recording (*.mcap or *.db3, as they are or with .zstd)")
        self._instruction = instruction
        self._metadata = {name: _metadata(paths[0]) for name, paths in self._paths.items()}
        texts = {content["contract"] for content in self._metadata.values() if "contract" in content}
        if contract is None and not texts:
            raise MissingColumnError(
                f"the recordings in {folder} do not carry a robot contract; give that of the robot (--robot)"
            )
        if len(texts) > 1:
            raise DataError(f"the recordings in {folder} are of different robots; read them one folder a robot")
        beside = None if contract is None else (contract.xacro or contract.urdf).parent
        carried = parse_contract(texts.pop(), str(folder), beside) if texts else contract
        assert carried is not None
        self._contract = carried
        self._description = description(self._contract, self._folder.name)

    @property
    def description(self) -> DatasetDescription:
        """Description that holds for every step."""
        return self._description

    @property
    def episodes(self) -> Sequence[str]:
        """Names of the episodes."""
        return list(self._paths)

    def read(self, episode: str, *, images: bool = True) -> Iterator[Step]:
        """Yield the steps of an episode."""
        if episode not in self._paths:
            raise DataError(f"{self._folder} has no recording '{episode}'; it has {len(self._paths)}")
        content = self._metadata[episode]
        success = OUTCOMES.get(content.get("outcome", "unknown"))
        before: Step | None = None
        for step in self._steps(self._paths[episode], episode, content.get("task", self._folder.name)):
            if before is not None:
                yield _finished(before, success, last=False, images=images)
            before = step
        if before is None:
            raise DataError(f"{self._paths[episode][0]} has no step: nothing was commanded while it was recorded")
        yield _finished(before, success, last=True, images=images)

    def _steps(self, paths: Sequence[Path], episode: str, task: str) -> Iterator[Step]:
        found = {topic: kind for path in paths for topic, kind in topics_of(path).items()}
        if "/vla/observation" in found:
            assembler = new_assembler(self._contract, episode, task)
            for path in paths:
                for topic, message in messages(path, STEP_TOPICS):
                    with self._naming_given_contract(episode):
                        steps = feed(assembler, self._contract, topic, message)
                    yield from steps
            yield from assembler.finish()
            return
        topics = find_topics(found, self._contract, str(paths[0]))
        standard = StandardAssembler(self._contract, topics, episode, task, self._instruction)
        for raw in read_messages(paths, topics.all):
            yield from standard.take(raw)
        yield from standard.finish()

    @contextmanager
    def _naming_given_contract(self, episode: str) -> Iterator[None]:
        """Add to an error that the contract was given rather than recorded: it may be that of another robot."""
        try:
            yield
        except VlaError as error:
            if "contract" in self._metadata[episode]:
                raise
            raise DataError(
                f"the recording carries no robot contract, and '{self._contract.name}' does not fit: {error}; give "
                "that of the robot that was recorded (--robot)"
            ) from error


def messages(path: Path, topics: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """Yield the topics and messages of a recording in recorded order.

    Raises:
        DamagedDataError: when the file is truncated or damaged.
        MissingColumnError: when it has none of the topics.
    """
    found = False
    for message in read_messages([path], topics):
        found = True
        yield message.topic, deserialize_message(message.content, TOPICS[message.topic][0])
    if not found:
        raise MissingColumnError(f"{path} has none of the topics {list(topics)}")


def _metadata(path: Path) -> dict[str, str]:
    if path.suffix != ".mcap":
        return {}
    try:
        with path.open("rb") as file:
            for record in make_reader(file).iter_metadata():
                if record.name == METADATA:
                    return dict(record.metadata)
            return {}
    except (McapError, OSError, EOFError) as error:
        raise DamagedDataError(f"{path} cannot be read: {error!r}; it was cut short or damaged") from error


def _finished(step: Step, success: bool | None, *, last: bool, images: bool) -> Step:
    return replace(step, success=success, last=last, images=step.images if images else {})
