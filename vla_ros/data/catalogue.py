"""Opens a data set by format name, and reads mixture tables; a format's reader is imported on first use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from vla_ros.actions.space import ActionSpace
from vla_ros.data.checking import only_data_errors, open_checked
from vla_ros.data.errors import DataError
from vla_ros.data.foreign.renaming import RenamedReader
from vla_ros.data.reader import EpisodeReader
from vla_ros.errors import ContractError
from vla_ros.extras import advice
from vla_ros.yaml_files import read_yaml

FORMATS: Mapping[str, str] = {
    "lerobot": "vla_ros.data.lerobot.reader:LeRobotReader",
    "rlds": "vla_ros.data.readers.rlds:RldsReader",
    "rlbench": "vla_ros.data.readers.rlbench:RlbenchReader",
    "hdf5": "vla_ros.data.readers.hdf5:Hdf5Reader",
}
"""Format name to its reader (module:class); each takes a path and its own options."""


@dataclass(frozen=True)
class Line:
    """One entry of a mixture table.

    Attributes:
        format: One of `FORMATS`.
        path: File or folder.
        weight: Sampling weight of its steps, relative to the other entries.
        options: Reader options such as `convention`, `split` or `cameras`; also `rename_cameras` and `frame`, see
            `RenamedReader`.
    """

    format: str
    path: Path
    weight: float
    options: Mapping[str, Any]


def open_dataset(kind: str, path: Path, **options: Any) -> EpisodeReader:  # noqa: ANN401 (those of the reader)
    """Return the reader of a data set; `convention` may be a plain mapping.

    Options are those of the reader, plus `rename_cameras` and `frame` (see `RenamedReader`).

    Raises:
        DataError: when the format is unknown, a package is missing, or the reader lacks an option.
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
    """Return the entries of a mixture: a YAML list of `format`, `path`, `weight` and reader options.

    Raises:
        DataError: when the file cannot be read, or an entry is incomplete.
    """
    try:
        content = read_yaml(Path(path), "table of data sets")
    except (OSError, ContractError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    return table_lines(content, str(path))


def table_lines(content: object, where: str) -> list[Line]:
    """Return the entries of a table read from `where`; see `read_table`.

    Raises:
        DataError: when an entry is incomplete.
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
