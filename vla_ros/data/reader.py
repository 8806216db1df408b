"""What every reader offers, whatever the format behind it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

from vla_ros.actions.space import ActionSpace
from vla_ros.data.errors import ConventionError
from vla_ros.data.step import Step


@dataclass(frozen=True)
class AuxColumn:
    """One label a step that only a simulator knows.

    Attributes:
        dtype: "float32", "int64" or "string".
        shape: Of a step's label; () for a single one, as every string is.
    """

    dtype: str
    shape: tuple[int, ...] = ()


@dataclass(frozen=True)
class DatasetDescription:
    """What holds for every step of a data set.

    Attributes:
        name: For people and for error messages.
        convention: Of the actions; its horizon is 1, one row a step.
        cameras: Names of the pictures.
        proprioception_names: One name a measurement.
        max_opening: Opening of the gripper that counts as fully open, m; None where the data set does not say.
        time_column: Where the times of the steps come from, for error messages.
        depth_cameras: Names of images that hold no color, such as depth, and are not read.
        aux: Name of each label that only a simulator knows.
    """

    name: str
    convention: ActionSpace
    cameras: tuple[str, ...]
    proprioception_names: tuple[str, ...]
    max_opening: float | None = None
    time_column: str = "the number of the step"
    depth_cameras: tuple[str, ...] = ()
    aux: Mapping[str, AuxColumn] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "convention", replace(self.convention, horizon=1))

    def require(self, convention: ActionSpace) -> None:
        """Insist on a convention, its horizon apart.

        Raises:
            ConventionError: naming every line that differs.
        """
        if differences := self.convention.differences(replace(convention, horizon=1)):
            raise ConventionError(f"{self.name} has another action convention: " + "; ".join(differences))


@runtime_checkable
class EpisodeReader(Protocol):
    """Finished episodes of one data set.

    The list of episodes comes from the data set's index; no picture is decoded for it. `read` yields one step after the
    other and holds no more than a few decoded pictures, however long the episode is.
    """

    @property
    def description(self) -> DatasetDescription:
        """What holds for every step."""
        ...

    @property
    def episodes(self) -> Sequence[str]:
        """Names of the episodes, in the order of the data set."""
        ...

    def read(self, episode: str, *, pictures: bool = True) -> Iterator[Step]:
        """Yield the steps of an episode in order; without `pictures`, `Step.images` is empty and none is decoded.

        Raises:
            DataError: naming the file and the place that cannot be read.
        """
        ...
