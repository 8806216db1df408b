"""Interface of all data set readers, independent of the format."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

from vla_ros.actions.space import ActionSpace
from vla_ros.data.errors import ConventionError
from vla_ros.data.step import Step


@dataclass(frozen=True)
class AuxColumn:
    """Type of a per-step label that only a simulator can provide.

    Attributes:
        dtype: "float32", "int64" or "string".
        shape: Shape of one step's label; () for a scalar, as for every string.
    """

    dtype: str
    shape: tuple[int, ...] = ()


@dataclass(frozen=True)
class DatasetDescription:
    """Properties common to all steps of a data set.

    Attributes:
        name: Name for users and error messages.
        convention: Action space; its horizon is 1, one row per step.
        cameras: Names of the cameras.
        proprioception_names: One name per measurement.
        max_opening: Opening of the gripper that counts as fully open, m; None if the data set does not declare it.
        time_column: Source of the steps' timestamps, for error messages.
        depth_cameras: Names of images without color, such as depth, which are not read.
        aux: Simulator labels by name.
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
        """Check the action space, ignoring its horizon.

        Raises:
            ConventionError: naming every differing line.
        """
        if differences := self.convention.differences(replace(convention, horizon=1)):
            raise ConventionError(f"{self.name} has another action convention: " + "; ".join(differences))


@runtime_checkable
class EpisodeReader(Protocol):
    """Finished episodes of one data set.

    The list of episodes comes from the data set's index, without decoding images. `read` yields one step at a time and
    holds only a few decoded images, however long the episode is.
    """

    @property
    def description(self) -> DatasetDescription:
        """Properties common to all steps."""
        ...

    @property
    def episodes(self) -> Sequence[str]:
        """Names of the episodes, in the order of the data set."""
        ...

    def read(self, episode: str, *, images: bool = True) -> Iterator[Step]:
        """Yield the steps of an episode in order; without `images`, `Step.images` is empty and nothing is decoded.

        Raises:
            DataError: naming the file and the place that cannot be read.
        """
        ...
