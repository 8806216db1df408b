"""What the console needs of the graph that it shows: everything else in this room knows no ROS 2."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class Answer:
    """What came of a request.

    Attributes:
        done: The graph does what was asked for.
        text: For people: what happened, or why it did not.
    """

    done: bool
    text: str


@dataclass(frozen=True)
class Frame:
    """One image of a camera: its number, rising by one from 1, and the JPEG."""

    number: int
    jpeg: bytes


class GraphLink(Protocol):
    """The graph, as the console sees it; every method may be called in any thread.

    Attributes:
        robot: Name of the robot.
        cameras: Names of its cameras.
        records: Whether it can record.
    """

    robot: str
    cameras: tuple[str, ...]
    records: bool

    def status(self) -> dict[str, Any]:
        """Return what is known now, ready for JSON: no NaN. Never waits."""

    def show(self, cameras: Collection[str]) -> None:
        """Take which cameras somebody looks at; nothing is decoded for the others."""

    def frame(self, camera: str) -> Frame | None:
        """Return the newest image of a camera that is shown. Never waits."""

    def instruct(self, text: str) -> Answer:
        """Ask for a task, or order a stop in words; waits for what the graph answers."""

    def arm(self) -> Answer:
        """Ask for the permission to move."""

    def disarm(self) -> Answer:
        """Bring the arm to rest and take the permission back."""

    def reset(self) -> Answer:
        """End an emergency stop whose buttons are all released."""

    def start_recording(self) -> Answer:
        """Begin an episode."""

    def end_recording(self, success: bool | None, keep: bool) -> Answer:
        """End the episode: with a success mark (None: unknown), or without a trace of it."""
