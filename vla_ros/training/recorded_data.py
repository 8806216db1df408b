"""Recorded data of a training: which of the given paths are such, and what cannot be had from them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

from vla_ros.data.catalogue import Line, read_table
from vla_ros.data.errors import DataError
from vla_ros.data.reader import EpisodeReader
from vla_ros.data.recognition import TABLES, recognise
from vla_ros.errors import VlaError
from vla_ros.models.checkpoint import load_bundle
from vla_ros.robot.contract import RobotContract
from vla_ros.training.configuration import DataSection, TrainingConfig
from vla_ros.training.recorded_dataset import Augmentations, RecordedDataset, check_network
from vla_ros.training.stored_steps import Recording, store_steps

Episode = TypeVar("Episode", str, int)

OpenLine = Callable[[Line, RobotContract], EpisodeReader]
"""Opens the data set of a line for a robot."""


def recorded_lines(config: TrainingConfig) -> list[Line]:
    """Return the table of a training's recorded data sets; [] when it uses demonstrations of the workcell.

    Raises:
        VlaError: when the paths are of both kinds, or the training asks for what recorded data cannot give.
    """
    lines = _lines(config.data)
    if not lines:
        if config.data.pictures is not None or config.data.words is not None:
            raise VlaError(
                "data.pictures and data.words change recorded data, not demonstrations of the simulated cell"
            )
        return []
    if config.method != "cloning":
        raise VlaError(
            f"method '{config.method}' needs the workcell's expert or success checker; recorded data have neither: "
            "clone from them, and start from what comes out"
        )
    if config.deciding.steps:
        raise VlaError("deciding alone is taught by the labels of the simulated cell, which recorded data do not have")
    if config.data.episodes:
        raise VlaError(f"data.episodes is {config.data.episodes}: nothing is collected into recorded data")
    check_network(config.model if config.start_from is None else load_bundle(config.start_from).model)
    return lines


def recorded_dataset(
    lines: Sequence[Line], contract: RobotContract, data: DataSection, open_line: OpenLine
) -> RecordedDataset:
    """Open data sets, bring them into the cache, and join them.

    Args:
        lines: The data sets.
        contract: The robot.
        data: How they are changed, and where the cache is.
        open_line: Returns the reader of a line: some formats need ROS, which this room does not know.

    Raises:
        DataError: naming the data set, and every line of it that does not fit the robot.
    """
    recordings = [Recording(line, open_line(line, contract)) for line in lines]
    parts = store_steps(recordings, contract, data.cache, _progress)
    change = None
    if data.pictures is not None:
        from vla_ros.training.recorded_pictures import PictureAugmentation

        change = PictureAugmentation(data.pictures)
    limit = None if data.cache_gb is None else data.cache_gb * 1e9
    dataset = RecordedDataset(parts, contract, Augmentations(change, data.words), limit)
    dataset.decode(_progress)
    return dataset


def _lines(data: DataSection) -> list[Line]:
    """Return the lines of the mixture, or those that folders and tables among `folders` make: each of weight 1."""
    if data.mixture:
        return list(data.mixture)
    lines: list[Line] = []
    others: list[Path] = []
    for path in data.folders:
        if path.suffix in TABLES and path.is_file():
            lines += read_table(path)
        elif (kind := recognise(path)) is not None:
            lines.append(Line(kind, path, 1.0, {}))
        else:
            others.append(path)
    if lines and others:
        raise DataError(
            f"{[str(path) for path in others]} are no recorded data sets, {[str(line.path) for line in lines]} are: "
            "demonstrations of the simulated cell (vla-ros collect) and recorded data are not mixed"
        )
    return lines


def _progress(episodes: Iterable[Episode], what: str) -> Iterable[Episode]:
    return tqdm(episodes, unit="episode", desc=what)
