"""A data set under the names of the robot that is trained on it: somebody who knows says which camera is which."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from vla_ros.data.errors import MissingColumnError
from vla_ros.data.reader import DatasetDescription, EpisodeReader
from vla_ros.data.step import Step


class RenamedReader:
    """See `EpisodeReader`. Passes steps on with other names; no number and no picture changes."""

    def __init__(self, reader: EpisodeReader, *, cameras: Mapping[str, str] | None = None,
                 frame: str | None = None) -> None:  # fmt: skip
        """Wrap a reader.

        Args:
            reader: Of the data set.
            cameras: Name there to name here; a camera that is not among them keeps its own.
            frame: Name of the frame that the columns of the actions use; its axes stay what they are.

        Raises:
            MissingColumnError: when the data set has no such camera, or two would have one name.
        """
        given = reader.description
        self._reader, self._cameras = reader, dict(cameras or {})
        if unknown := set(self._cameras) - set(given.cameras):
            raise MissingColumnError(
                f"{given.name} has no cameras {sorted(unknown)} to rename; it has {[*given.cameras]}"
            )
        names = tuple(self._cameras.get(camera, camera) for camera in given.cameras)
        if len(set(names)) != len(names):
            raise MissingColumnError(f"{given.name}: two cameras would be called the same: {[*names]}")
        convention = given.convention if frame is None else given.convention.in_frame(frame)
        self._description = replace(given, cameras=names, convention=convention)

    @property
    def description(self) -> DatasetDescription:
        """What holds for every step, under the new names."""
        return self._description

    @property
    def episodes(self) -> Sequence[str]:
        """Names of the episodes."""
        return self._reader.episodes

    def read(self, episode: str, *, pictures: bool = True) -> Iterator[Step]:
        """Yield the steps of an episode."""
        for step in self._reader.read(episode, pictures=pictures):
            images = {self._cameras.get(camera, camera): image for camera, image in step.images.items()}
            yield replace(step, images=images, convention=self._description.convention)
