"""Maps a data set's camera and frame names to those of the robot being trained for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from vla_ros.data.errors import MissingColumnError
from vla_ros.data.reader import DatasetDescription, EpisodeReader
from vla_ros.data.step import Step


class RenamedReader:
    """See `EpisodeReader`. Renames cameras and the frame; numbers and images stay unchanged."""

    def __init__(
        self, reader: EpisodeReader, *, cameras: Mapping[str, str] | None = None, frame: str | None = None
    ) -> None:
        """Wrap a reader.

        Args:
            reader: Reader of the data set.
            cameras: Data set camera to robot camera; cameras not listed keep their names.
            frame: Frame name for the actions; the axes stay unchanged.

        Raises:
            MissingColumnError: when the data set lacks a camera, or two would get the same name.
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
        """Properties common to all steps, under the new names."""
        return self._description

    @property
    def episodes(self) -> Sequence[str]:
        """Names of the episodes."""
        return self._reader.episodes

    def read(self, episode: str, *, images: bool = True) -> Iterator[Step]:
        """Yield the steps of an episode."""
        for step in self._reader.read(episode, images=images):
            renamed = {self._cameras.get(camera, camera): image for camera, image in step.images.items()}
            yield replace(step, images=renamed, convention=self._description.convention)
