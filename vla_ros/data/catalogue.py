"""Opens a data set by the name of its format, and reads the table of a mixture; a format is imported when used."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from vla_ros.actions.space import ActionSpace
from vla_ros.data.checking import only_data_errors, open_checked
from vla_ros.data.errors import DataError
from vla_ros.data.reader import EpisodeReader
from vla_ros.data.renaming import RenamedReader
from vla_ros.errors import ContractError
from vla_ros.extras import advice
from vla_ros.yaml_files import read_yaml

FORMATS: Mapping[str, str] = {
    "lerobot": "vla_ros.data.lerobot.reader:LeRobotReader",
    "rlds": "vla_ros.data.readers.rlds:RldsReader",
    "rlbench": "vla_ros.data.readers.rlbench:RlbenchReader",
    "hdf5": "vla_ros.data.readers.hdf5:Hdf5Reader",
}
"""Name to where its reader is; each takes the path and options of its own."""


@dataclass(frozen=True)
class Line:
    """One line of a mixture's table.

    Attributes:
        format: One of `FORMATS`.
        path: File or folder.
        weight: How often its steps are drawn, relative to the others.
        options: Of the reader, such as `convention`, `split` or `cameras`; and `rename_cameras` and `frame`, see
            `RenamedReader`.
    """

    format: str
    path: Path
    weight: float
    options: Mapping[str, Any]


def open_dataset(kind: str, path: Path, **options: Any) -> EpisodeReader:  # noqa: ANN401 (those of the reader)
    """Return the reader of a data set; `convention` may be given as plain values.

    The options are the reader's own, and `rename_cameras` and `frame`: see `RenamedReader`.

    Raises:
        DataError: when the format is not known, a package is missing, or an option is not one of the reader's.
    """
    if kind not in FORMATS:
        raise DataError(f"there is no format '{kind}'; choose one of {sorted(FORMATS)}")
    module, _, name = FORMATS[kind].partition(":")
    cameras, frame = options.pop("rename_cameras", None), options.pop("frame", None)
    if isinstance(options.get("convention"), Mapping):
        with only_data_errors(f"{path}: convention"):
            options["convention"] = ActionSpace.from_dict({"horizon": 1, **options["convention"]})
    try:
        reader: Callable[..., EpisodeReader] = getattr(import_module(module), name)
    except ModuleNotFoundError as error:
        raise DataError(f"reading '{kind}' needs {error.name}: {advice('pyarrow')}") from error
    opened = open_checked(reader, Path(path), options, kind)
    return opened if cameras is None and frame is None else RenamedReader(opened, cameras=cameras, frame=frame)


def read_table(path: Path) -> list[Line]:
    """Return the lines of a mixture: a YAML list of `format`, `path`, `weight`, and options of the reader.

    Raises:
        DataError: when it cannot be read, or a line lacks something.
    """
    try:
        content = read_yaml(Path(path), "table of data sets")
    except (OSError, ContractError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    return table_lines(content, str(path))


def table_lines(content: object, where: str) -> list[Line]:
    """Return the lines of a table that was read from `where`; see `read_table`.

    Raises:
        DataError: when a line lacks something.
    """
    if not isinstance(content, list) or not content:
        raise DataError(f"{where}: expected a list of data sets")
    lines = []
    for number, entry in enumerate(content, start=1):
        if not isinstance(entry, Mapping) or not {"format", "path", "weight"} <= set(entry):
            raise DataError(f"{where}, line {number}: expected format, path and weight, got {entry!r}")
        options = {str(key): value for key, value in entry.items() if key not in ("format", "path", "weight")}
        try:
            lines.append(Line(str(entry["format"]), Path(str(entry["path"])), float(entry["weight"]), options))
        except (TypeError, ValueError) as error:
            raise DataError(f"{where}, line {number}: weight {entry['weight']!r} is no number") from error
    return lines
