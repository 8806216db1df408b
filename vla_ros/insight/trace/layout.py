"""What a trace is made of: its version, its own topics, and the files of a rosbag2 folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import yaml

VERSION = "1"
"""Of the layout below; a reader refuses any other."""

METADATA_RECORD = "vla_ros_trace"
"""Name of the MCAP metadata record at the beginning of each segment: `version`, `robot`, `started`."""

METADATA_FILE = "metadata.yaml"
KEPT = "kept"
"""Folder, beside the rings, of what was moved out of one because something went wrong."""

OBSERVATION_TOPIC = "vla/trace/observation"
"""Observations by reference: all of the message but the pixels."""

INCIDENT_TOPIC = "vla/trace/incident"
"""One sentence (std_msgs/String) for each thing that went wrong."""

BAG_VERSION = 5
"""Of `metadata.yaml`: rosbag2 of Humble and of all later distributions reads it."""

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
        definition: Of the message and all that it contains, as MCAP's "ros2msg".
        carried: The newest message also begins each later segment: it holds until another one comes.
    """

    topic: str
    type_name: str
    definition: str
    carried: bool = False


@dataclass
class Segment:
    """One finished or growing MCAP file; times in ns of the recorder's clock."""

    name: str
    start: int
    end: int
    size: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    finished: bool = False


def bag_metadata(segments: Sequence[Segment], channels: Mapping[str, Channel]) -> bytes:
    """Return the `metadata.yaml` of a rosbag2 folder that holds the finished ones of `segments`, oldest first."""
    segments = [one for one in segments if one.finished]  # rosbag2 refuses a folder that names a file without an end
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
