"""An episode being written: kept once committed, dropped in every other case."""

from __future__ import annotations

import shutil
from types import TracebackType
from typing import TYPE_CHECKING

from vla_ros.data.errors import DataError, DiskFullError
from vla_ros.data.lerobot.draft import Draft
from vla_ros.data.lerobot.index import EpisodeRow
from vla_ros.data.step import Step

if TYPE_CHECKING:
    from vla_ros.data.lerobot.writer import LeRobotWriter


class EpisodeInProgress:
    """An episode being written; dropped unless it is committed."""

    def __init__(self, writer: LeRobotWriter, name: str, task: str) -> None:
        """Start without steps."""
        self.name, self._task, self._writer = name, task, writer
        self._draft: Draft | None = writer.new_draft()

    def __len__(self) -> int:
        """Number of steps so far."""
        return 0 if self._draft is None else len(self._draft)

    def add(self, step: Step) -> None:
        """Append a step; see `Draft.add`. The whole episode is dropped when the disk is full."""
        try:
            self._open().add(step)
        except DiskFullError:
            self.abort()
            raise

    def commit(self, success: bool | None) -> EpisodeRow:
        """Add the episode to the data set; see `LeRobotWriter.commit`."""
        try:
            return self._writer.commit(self._open(), self.name, self._task, success)
        finally:
            self.abort()

    def abort(self) -> None:
        """Discard everything that was not committed."""
        if self._draft is not None:
            self._draft.abort()
            if self._draft.folder is not None:
                shutil.rmtree(self._draft.folder, ignore_errors=True)
            self._draft = None

    def _open(self) -> Draft:
        if self._draft is None:
            raise DataError(f"episode '{self.name}' is finished or was dropped")
        return self._draft

    def __enter__(self) -> EpisodeInProgress:
        """Return the episode."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Drop it unless it was committed."""
        self.abort()
