"""Layout of a trace: its version, its own topics, and the files of a rosbag2 folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import yaml

VERSION = "1"
"""Version of this layout; a reader rejects any other."""

METADATA_RECORD = "vla_ros_trace"
"""Name of the MCAP metadata record at the start of each segment: `version`, `robot`, `started`."""

METADATA_FILE = "metadata.yaml"
KEPT = "kept"
"""Folder beside the rings for traces moved out of them after an incident."""

OBSERVATION_TOPIC = "vla/trace/observation"
"""Observations without pixels: the rest of the message."""

INCIDENT_TOPIC = "vla/trace/incident"
"""One sentence (std_msgs/String) per incident."""

BAG_VERSION = 5
"""Version of `metadata.yaml`, readable by rosbag2 of Humble and all later distributions."""

_IMAGE_TOPIC = "vla/trace/{camera}/compressed"


def image_topic(camera: str) -> str:
    """Return the topic of the JPEG images of a camera."""
    return _IMAGE_TOPIC.format(camera=camera)


def camera_of(topic: str) -> str:
    """Return the camera of an image topic in any namespace; "" for another topic."""
    head, _, camera = topic.removesuffix("/compressed").rpartition("/")
    return camera if topic.endswith("/compressed") and head.endswith("vla/trace") else ""


@dataclass(frozen=True)
class Channel:
    """One topic of a trace.

    Attributes:
        topic: Absolute name.
        type_name: Such as "vla_ros/msg/SafetyStatus".
        definition: Definition of the message and its nested types, as MCAP's "ros2msg".
        carried: Repeat the newest message at the start of each later segment, because it stays valid until replaced.
    """

    topic: str
    type_name: str
    definition: str
    carried: bool = False


@dataclass
class Segment:
    """A finished or growing MCAP file; times in ns of the recorder's clock."""

    name: str
    start: int
    end: int
    size: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    finished: bool = False


def bag_metadata(segments: Sequence[Segment], channels: Mapping[str, Channel]) -> bytes:
    """Return the `metadata.yaml` of a rosbag2 folder with the finished `segments`, oldest first."""
    segments = [one for one in segments if one.finished]  # rosbag2 rejects a folder that lists an unfinished file
    start = min((one.start for one in segments), default=0)
    end = max((one.end for one in segments), default=0)
    counts: dict[str, int] = {}
    for segment in segments:
        for topic, count in segment.counts.items():
            counts[topic] = counts.get(topic, 0) + count
    information = {
        "version": BAG_VERSION,
        "storage_identifier": "mcap",
        "relative_file_paths": [one.name for one in segments],
        "duration": {"nanoseconds": end - start},
        "starting_time": {"nanoseconds_since_epoch": start},
        "message_count": sum(counts.values()),
        "topics_with_message_count": [_topic(channels[topic], count) for topic, count in sorted(counts.items())],
        "compression_format": "",
        "compression_mode": "",
        "files": [_file(one) for one in segments],
    }
    return yaml.safe_dump({"rosbag2_bagfile_information": information}, sort_keys=False).encode()


def _topic(channel: Channel, count: int) -> dict[str, object]:
    return {
        "topic_metadata": {
            "name": channel.topic,
            "type": channel.type_name,
            "serialization_format": "cdr",
            "offered_qos_profiles": "",
        },
        "message_count": count,
    }


def _file(segment: Segment) -> dict[str, object]:
    return {
        "path": segment.name,
        "starting_time": {"nanoseconds_since_epoch": segment.start},
        "duration": {"nanoseconds": segment.end - segment.start},
        "message_count": sum(segment.counts.values()),
    }
