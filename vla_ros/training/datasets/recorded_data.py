"""Recorded data of a training: recognizes recorded datasets and rejects trainings that they cannot support."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

from vla_ros.data.catalogue import Line, read_table
from vla_ros.data.errors import DataError
from vla_ros.data.foreign.recognition import TABLES, recognize
from vla_ros.data.reader import EpisodeReader
from vla_ros.errors import ContractError, VlaError
from vla_ros.models.checkpoint import load_bundle
from vla_ros.robot.action_override import with_action
from vla_ros.robot.contract import RobotContract
from vla_ros.training.configuration import DataSection, TrainingConfig
from vla_ros.training.datasets.recorded import Augmentations, RecordedDataset, check_network
from vla_ros.training.datasets.stored_steps import Recording, store_steps

Episode = TypeVar("Episode", str, int)

OpenLine = Callable[[Line, RobotContract], EpisodeReader]
"""Opens the dataset of a line for a robot."""


def recorded_lines(config: TrainingConfig) -> list[Line]:
    """Return the table of a training's recorded datasets; [] when it uses demonstrations of the workcell.

    Raises:
        VlaError: when both kinds of paths are given, or the training needs what recorded data lack.
    """
    lines = _lines(config.data)
    if not lines:
        if config.data.image_augmentation is not None or config.data.language_augmentation is not None:
            raise VlaError(
                "data.image_augmentation and data.language_augmentation change recorded data, not demonstrations "
                "of the simulated workcell"
            )
        if config.data.history > 1:
            raise VlaError(
                f"data.history is {config.data.history}: demonstrations of the simulated cell are seen frame by frame"
            )
        return []
    if config.method != "bc":
        raise VlaError(
            f"method '{config.method}' needs the workcell's expert or success checker; recorded data have neither: "
            "clone from them, and start from what comes out"
        )
    if config.action_head.steps:
        raise VlaError("the action head alone is trained on labels of the simulated workcell, which recorded data lack")
    if config.data.episodes:
        raise VlaError(f"data.episodes is {config.data.episodes}: nothing is collected into recorded data")
    check_network(config.model if config.start_from is None else load_bundle(config.start_from).model)
    return lines


def open_recordings(lines: Sequence[Line], contract: RobotContract, open_line: OpenLine) -> list[Recording]:
    """Open datasets with `open_line`, passed in because some formats need ROS, which this room must not import.

    Raises:
        DataError: naming the dataset that cannot be opened.
    """
    return [Recording(line, open_line(line, contract)) for line in lines]


def commanded_as(recordings: Sequence[Recording], contract: RobotContract) -> RobotContract:
    """Return the contract with the datasets' joint-space actions if the contract commands the tool; else unchanged.

    This applies only if all datasets have joint-space actions. Rate and horizon stay the contract's. Any other
    difference is left for `check_dataset` to reject.
    """
    first = recordings[0].reader.description.convention
    if contract.commands_joints or not all(one.reader.description.convention.of_joints for one in recordings):
        return contract
    try:
        return with_action(contract, replace(first, rate_hz=contract.action.rate_hz, horizon=contract.action.horizon))
    except ContractError:  # of another arm
        return contract


def recorded_dataset(recordings: Sequence[Recording], contract: RobotContract, data: DataSection) -> RecordedDataset:
    """Convert datasets to cached rows and concatenate them.

    Args:
        recordings: Opened datasets.
        contract: Robot contract.
        data: Augmentations, and the location of the cache.

    Raises:
        DataError: naming the dataset, and every line of it that does not fit the robot.
    """
    parts = store_steps(recordings, contract, data.cache, _progress, data.history)
    change = None
    if data.image_augmentation is not None:
        from vla_ros.training.datasets.recorded_images import PerImageAugmentation

        change = PerImageAugmentation(data.image_augmentation)
    limit = None if data.cache_gb is None else data.cache_gb * 1e9
    dataset = RecordedDataset(parts, contract, Augmentations(change, data.language_augmentation), limit)
    dataset.decode(_progress)
    return dataset


def _lines(data: DataSection) -> list[Line]:
    """Return the lines of the mixture, or those of the folders and tables in `folders`; a folder has weight 1."""
    if data.mixture:
        return list(data.mixture)
    lines: list[Line] = []
    others: list[Path] = []
    for path in data.folders:
        if path.suffix in TABLES and path.is_file():
            lines += read_table(path)
        elif (kind := recognize(path)) is not None:
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
