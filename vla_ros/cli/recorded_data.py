"""Open recorded datasets for training, including those that need ROS."""

from __future__ import annotations

from vla_ros.data.catalogue import Line, open_dataset
from vla_ros.data.checking import open_checked
from vla_ros.data.errors import DataError
from vla_ros.data.foreign.recognition import MCAP
from vla_ros.data.reader import EpisodeReader
from vla_ros.robot.contract import RobotContract


def open_line(line: Line, contract: RobotContract) -> EpisodeReader:
    """Return the reader of a dataset.

    Raises:
        DataError: when it does not exist, cannot be read, or needs a package that is not installed.
    """
    if not line.path.exists():
        raise DataError(f"{line.path} is not there")
    if line.format != MCAP:
        return open_dataset(line.format, line.path, **dict(line.options))
    try:
        from vla_ros.recording.bag import BagReader
    except ModuleNotFoundError as error:
        raise DataError(f"reading MCAP needs ROS 2, and {error.name} is not installed; record as LeRobot") from error
    return open_checked(BagReader, line.path, {"contract": contract, **line.options}, MCAP)
