"""Recorded steps of one dataset as training rows: numbers in memory, decoded images in the cache.

The numbers of all datasets are read first, so that faults are reported before any image is decoded; images are decoded
one episode at a time, on first use (see `EpisodeImages`). Only the numbers stay in memory, about 0.4 kB per step. The
name of a cache folder changes with anything it was made from: a file of the dataset, the robot's action space, its
cameras.

============  ===========================  ===========================================================
row           shape, dtype                 meaning
============  ===========================  ===========================================================
states        (steps, S) float32           see `processing.state`
chunks        (steps, H, width) float32    action chunk in the robot's action space, see `data.chunks`
past          (steps, history) int64       steps that are seen at once, see `processing.history`
sentence_of   (steps,) int64               index of the instruction in `sentences`
images        (steps, h, w, 3) uint8       on disk, by camera, see `data.cache`
============  ===========================  ===========================================================
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_ros.actions.space import ActionSpace
from vla_ros.data.cache import EpisodeImages
from vla_ros.data.catalogue import Line
from vla_ros.data.checking import CheckedReader
from vla_ros.data.chunks import action_chunks
from vla_ros.data.errors import ConventionError, DataError, UnusableEpisodeError, disk_full_errors
from vla_ros.data.reader import EpisodeReader
from vla_ros.data.step import Step
from vla_ros.errors import ObservationError
from vla_ros.processing.features import STATES, CameraFeature
from vla_ros.processing.history import past_steps
from vla_ros.processing.images import fit_image
from vla_ros.robot.contract import RobotContract
from vla_ros.training.datasets.recorded_fit import (
    check_dataset,
    full_opening,
    joint_names,
    motion_limits,
    network_state,
)
from vla_ros.types import ImageArray

VERSION = 4
"""Format version; increased when rows are computed differently, so that old ones are not reused."""

ODD_FRACTION = 0.5
"""Fraction of odd episodes above which the dataset itself is considered misread."""

ROWS, NOTE = "rows.npz", "complete.json"
GRIPPER_TOLERANCE = 1e-4

Progress = Callable[[Iterable[str], str], Iterable[str]]
"""Wraps an iterable of episodes in a progress display with a short description."""


@dataclass(frozen=True)
class Recording:
    """Line of the table, and the reader opened for it."""

    line: Line
    reader: EpisodeReader


@dataclass(frozen=True)
class StoredSteps:
    """Rows of one dataset; see the table in the module docstring.

    Attributes:
        name: Path of the dataset.
        weight: Sampling weight of its steps, relative to the other datasets.
        images: Images, decoded on first use.
        sentences: All instructions in it.
        lengths: Number of steps of each accepted episode.
        failed: Number of episodes excluded because they are marked as failures.
        odd: Reasons why other episodes were excluded, one message per episode.
    """

    name: str
    weight: float
    images: EpisodeImages
    sentences: tuple[str, ...]
    lengths: tuple[int, ...]
    failed: int
    odd: tuple[str, ...]
    states: NDArray[np.float32]
    chunks: NDArray[np.float32]
    past: NDArray[np.int64]
    sentence_of: NDArray[np.int64]

    def __len__(self) -> int:
        """Number of steps."""
        return len(self.states)


def store_steps(
    recordings: Sequence[Recording], contract: RobotContract, cache: Path, progress: Progress, history: int = 1
) -> list[StoredSteps]:
    """Return the rows of datasets, from the cache if present.

    Args:
        recordings: Datasets to read.
        contract: Robot contract; determines cameras, sizes and action space.
        cache: Folder for the images.
        progress: Progress display; see `Progress`.
        history: Number of frames per network input.

    Raises:
        ConventionError, MissingColumnError, NotFiniteError: see `check_dataset` and the readers.
        DataError: when a dataset is unreadable, or has no step, no instruction, or images that cannot be resized.
    """
    for one in recordings:
        check_dataset(one.reader.description, contract)
    places = [cache / _fingerprint(one.line, contract, history) for one in recordings]
    fresh = [
        None if (place / NOTE).exists() else _numbers(one, contract, progress, history)
        for one, place in zip(recordings, places, strict=True)
    ]
    for one, place, found in zip(recordings, places, fresh, strict=True):
        if found is not None:
            _keep(one, found, place)
    return [_load(one, place, contract) for one, place in zip(recordings, places, strict=True)]


@dataclass(frozen=True)
class _Numbers:
    """All of a dataset but its images; `taken` maps the names of the accepted episodes to their lengths."""

    rows: dict[str, NDArray[Any]]
    sentences: list[str]
    taken: dict[str, int]
    failed: int
    odd: list[str]


def _numbers(recording: Recording, contract: RobotContract, progress: Progress, history: int) -> _Numbers:
    reader = CheckedReader(recording.reader, motion_limits(contract))
    description = reader.description
    opening = full_opening(description, contract)
    states, chunks, past, sentence_of = [], [], [], []
    sentences: dict[str, int] = {}
    taken: dict[str, int] = {}
    failed, odd = 0, list[str]()
    for episode in progress(reader.episodes, f"read {description.name}"):
        try:
            steps = _spoken(list(reader.read(episode, images=False)), f"{description.name}, episode '{episode}'")
            if not steps:
                continue
            if steps[-1].success is False:
                failed += 1
                continue
            found = action_chunks(steps, contract.action, opening, joint_names(contract))
        except UnusableEpisodeError as error:
            odd.append(str(error))
            continue
        stamps = [step.timestamp for step in steps]
        past.append(sum(taken.values()) + past_steps(stamps, history, contract.action.period))
        chunks.append(_checked(found, contract.action, f"{description.name}, episode '{episode}'"))
        states.append([network_state(step, contract) for step in steps])
        sentence_of += [sentences.setdefault(step.instruction, len(sentences)) for step in steps]
        taken[episode] = len(steps)
    if len(odd) > ODD_FRACTION * (len(taken) + len(odd)):
        raise DataError(f"{len(odd)} of {len(taken) + len(odd)} episodes cannot be learned from; the first: {odd[0]}")
    if not taken:
        raise DataError(f"{recording.line.path} has no episode to learn from ({failed} are marked as failures)")
    rows: dict[str, NDArray[Any]] = {
        "states": np.concatenate(states).astype(np.float32),
        "chunks": np.concatenate(chunks),
        "past": np.concatenate(past),
        "sentence_of": np.array(sentence_of, np.int64),
    }
    return _Numbers(rows, list(sentences), taken, failed, odd)


def _spoken(steps: list[Step], where: str) -> list[Step]:
    """Return the steps of an episode after checking that each has an instruction.

    Raises:
        UnusableEpisodeError: naming the first step without one.
    """
    if silent := [step.index for step in steps if not step.instruction.strip()]:
        raise UnusableEpisodeError(
            f"{where}, step {silent[0]} has no instruction: a network is taught with words (a table of data sets gives "
            "them by the line 'instruction: ...')"
        )
    return steps


def _checked(chunks: NDArray[np.float64], action: ActionSpace, where: str) -> NDArray[np.float32]:
    """Check that two-state grippers are commanded within their two states; return the chunks as float32."""
    for group in action.groups:
        if group.gripper not in STATES:
            continue
        column = chunks[..., action.columns[group.name]]
        low, high = float(column.min()), float(column.max())
        first, last = STATES[group.gripper]
        if low < first - GRIPPER_TOLERANCE or high > last + GRIPPER_TOLERANCE:
            raise ConventionError(
                f"{where}: the gripper is commanded from {low:.4f} to {high:.4f}, expected {first:g} to {last:g}; is "
                "the gripper's convention another?"
            )
    return chunks.astype(np.float32)


def _keep(recording: Recording, found: _Numbers, place: Path) -> None:
    """Write the numbers of a dataset into a cache folder, which gets its final name only when it is complete."""
    partial = place.with_name(f".{place.name}.{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with disk_full_errors(f"the numbers of {recording.reader.description.name} in {place.parent}"):
            partial.mkdir(parents=True)
            np.savez(partial / ROWS, **found.rows)  # type: ignore[arg-type]
            note = {
                "sentences": found.sentences,
                "episodes": list(found.taken),
                "lengths": list(found.taken.values()),
                "failed": found.failed,
                "odd": found.odd,
            }
            (partial / NOTE).write_text(json.dumps(note), encoding="utf-8")
        if not (place / NOTE).exists():  # another training may have been faster
            shutil.rmtree(place, ignore_errors=True)
            partial.replace(place)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _fitted(step: Step, camera: CameraFeature, name: str) -> ImageArray:
    """Return a step's image at the policy's size."""
    try:
        return fit_image(step.images[camera.source], camera)
    except ObservationError as error:
        raise DataError(f"{name}, episode '{step.episode}', step {step.index}: {error}") from error


def _load(recording: Recording, place: Path, contract: RobotContract) -> StoredSteps:
    try:
        note = json.loads((place / NOTE).read_text(encoding="utf-8"))
        with np.load(place / ROWS, allow_pickle=False) as file:
            rows = {key: file[key] for key in ("states", "chunks", "past", "sentence_of")}
        names, lengths = [str(name) for name in note["episodes"]], [int(length) for length in note["lengths"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{place} cannot be read: {error}; remove it, and it is made again") from error
    reader, sizes = (
        recording.reader,
        {c.name: CameraFeature(c.name, c.policy_height, c.policy_width) for c in contract.cameras},
    )
    name = reader.description.name

    def decode(episode: int) -> Iterator[dict[str, ImageArray]]:
        for step in reader.read(names[episode]):
            yield {camera: _fitted(step, feature, name) for camera, feature in sizes.items()}

    return StoredSteps(
        name=str(recording.line.path),
        weight=recording.line.weight,
        images=EpisodeImages(place, name, lengths, {c: (f.height, f.width) for c, f in sizes.items()}, decode),
        sentences=tuple(note["sentences"]),
        lengths=tuple(lengths),
        failed=int(note["failed"]),
        odd=tuple(note["odd"]),
        **rows,
    )


def _fingerprint(line: Line, contract: RobotContract, history: int) -> str:
    """Return the cache name of a dataset's rows, from its files, sizes, times and all conversion settings."""
    root = line.path
    inside = [root] if root.is_file() else sorted(root.rglob("*"))
    found = [path for path in inside if path.is_file() and not path.name.startswith(".")]
    if not found:
        raise DataError(f"{root} is not there, or holds no file")
    files = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in found]
    action = contract.action.to_dict()
    cameras = [(camera.name, camera.policy_height, camera.policy_width) for camera in contract.cameras]
    made = [VERSION, line.format, repr(sorted(line.options.items())), action, cameras, history, contract.text]
    return "recorded_" + hashlib.sha256(json.dumps([files, made]).encode()).hexdigest()[:16]
