"""Small LeRobot v3 data sets of somebody else, laid out by pyarrow and av alone; each option is one oddity."""

from __future__ import annotations

import json

import av
import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vla_ros.actions.space import ActionSpace
from vla_ros.data.step import GRIPPER_NAME, POSE_NAMES

CONVENTION = ActionSpace.of_one_tool("base", "relative", "rotation_vector", "open_is_one", 10.0, 1)
SIZE = (48, 64)
INDICES = ("frame_index", "episode_index", "index", "task_index")


def shade(number):
    """Return the gray level of picture `number` of the whole set."""
    return 40 + 13 * number % 160


def frame(number):
    return np.full((*SIZE, 3), shade(number), np.uint8)


def write_set(
    root,
    *,
    lengths=(4, 3),
    tasks=("pick up the red cube",),
    task_of=None,
    numbers=None,
    names=None,
    times=None,
    lists=False,
    tasks_column=True,
    task_table=None,
    cameras=("front",),
    image_format=None,
    pixel_format="yuv420p",
    columns=("action", "observation.state"),
    image_key="observation.images.{}",
    info=None,
    features=None,
    convention=CONVENTION,
    first=0,
    size=SIZE,
    video_times=None,
):
    """Write a set; `info` and `features` are laid over what stands in info.json, and None removes a line."""
    task_of, numbers = task_of or [0] * len(lengths), numbers or list(range(len(lengths)))
    rows, episodes, index = [], [], first
    for place, (length, number) in enumerate(zip(lengths, numbers, strict=True)):
        line = {
            "episode_index": number,
            "length": length,
            "data/chunk_index": 0,
            "data/file_index": 0,
            "dataset_from_index": index,
            "dataset_to_index": index + length,
        }
        if tasks_column:
            line["tasks"] = [tasks[task_of[place]]]
        if names is not None:
            line["vla_ros.episode"] = names[place]
        for camera in cameras if image_format is None else ():
            key = f"videos/{image_key.format(camera)}"
            line |= {f"{key}/chunk_index": 0, f"{key}/file_index": 0, f"{key}/from_timestamp": (index - first) / 10.0}
            if video_times is not None:
                line |= dict(zip((f"{key}/from_timestamp", f"{key}/to_timestamp"), video_times[place], strict=True))
        episodes.append(line)
        for i in range(length):
            row = {
                columns[0]: [0.001 * i, 0.0, 0.01, 0.0, 0.0, 0.0, 1.0],
                columns[1]: [0.5, 0.0, 0.3 + 0.01 * i, 1.0, 0.0, 0.0, 0.0, 0.08],
                "timestamp": times(i) if times else i / 10.0,
                "frame_index": i,
                "episode_index": number,
                "index": index,
                "task_index": task_of[place],
            }
            for camera in cameras if image_format is not None else ():
                picture = frame(index - first)
                picture = picture if image_format == "png" else picture.astype(np.uint16) * 256
                row[image_key.format(camera)] = {"bytes": cv2.imencode(".png", picture)[1].tobytes(), "path": None}
            rows.append(row)
            index += 1
    for name in ("timestamp", *INDICES) if lists else ():
        for row in rows:
            row[name] = [row[name]]
    for folder in ("meta/episodes/chunk-000", "data/chunk-000"):
        (root / folder).mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), root / "data/chunk-000/file-000.parquet")
    pq.write_table(pa.Table.from_pylist(episodes), root / "meta/episodes/chunk-000/file-000.parquet")
    pq.write_table(
        task_table or pa.table({"task_index": range(len(tasks)), "task": list(tasks)}), root / "meta/tasks.parquet"
    )
    kind = "image" if image_format is not None else "video"
    described = {image_key.format(camera): {"dtype": kind, "shape": [*size, 3], "names": None} for camera in cameras}
    described |= {
        columns[0]: {"dtype": "float32", "shape": [7], "names": None},
        columns[1]: {"dtype": "float32", "shape": [8], "names": [*POSE_NAMES, GRIPPER_NAME]},
        "timestamp": {"dtype": "float32", "shape": [1], "names": None},
        **{name: {"dtype": "int64", "shape": [1], "names": None} for name in INDICES},
    }
    content = {
        "codebase_version": "v3.0",
        "robot_type": "x",
        "total_episodes": len(lengths),
        "total_frames": sum(lengths),
        "fps": 10,
        "chunks_size": 1000,
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
        "features": {**described, **(features or {})},
        **(info or {}),
    }
    (root / "meta/info.json").write_text(json.dumps({k: v for k, v in content.items() if v is not None}))
    if convention is not None:
        action = {"name": "x", "action": convention.to_dict(), "max_opening": 0.08}
        (root / "meta/vla_ros.json").write_text(json.dumps(action))
    for camera in cameras if image_format is None else ():
        _video(root / f"videos/{image_key.format(camera)}/chunk-000", sum(lengths), pixel_format)
    return root


def _video(folder, count, pixel_format):
    folder.mkdir(parents=True)
    codec = "libx264" if pixel_format == "yuv420p" else "ffv1"
    with av.open(str(folder / "file-000.mp4"), "w", format="mp4" if codec == "libx264" else "matroska") as output:
        stream = output.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = SIZE[1], SIZE[0], pixel_format
        for number in range(count):
            if pixel_format == "yuv420p":
                picture = av.VideoFrame.from_ndarray(frame(number), format="rgb24")
            else:
                depth = np.full(SIZE, 500 + 100 * number, np.uint16)
                picture = av.VideoFrame.from_ndarray(depth, format=pixel_format)
            picture.pts = number
            output.mux(stream.encode(picture))
        output.mux(stream.encode(None))


def read_all(reader):
    """Return episode to its steps, after a look at every picture."""
    number, found = 0, {}
    for episode in reader.episodes:
        found[episode] = list(reader.read(episode))
        for step in found[episode]:
            for image in step.images.values():
                assert abs(int(image[24, 32].mean()) - shade(number)) <= 6, (episode, step.index)
            number += 1
    return found


class ForeignSets:
    convention, write, read = CONVENTION, staticmethod(write_set), staticmethod(read_all)


@pytest.fixture(scope="session")
def foreign():
    return ForeignSets
