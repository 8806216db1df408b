"""Interface of the console to the graph; the rest of this package is independent of ROS 2."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class Answer:
    """Result of a request.

    Attributes:
        done: Whether the graph does what was requested.
        text: Human-readable: what happened, or why it did not.
    """

    done: bool
    text: str


@dataclass(frozen=True)
class Frame:
    """A camera image: its number, counting up from 1, and the JPEG."""

    number: int
    jpeg: bytes


class GraphLink(Protocol):
    """The graph as the console sees it. Every method may be called from any thread.

    Attributes:
        robot: Name of the robot.
        cameras: Names of its cameras.
        records: Whether it can record.
    """

    robot: str
    cameras: tuple[str, ...]
    records: bool

    def status(self) -> dict[str, Any]:
        """Return the current status, JSON-serializable and without NaN. Never blocks."""

    def show(self, cameras: Collection[str]) -> None:
        """Set the cameras that are being viewed; images of the others are not decoded."""

    def frame(self, camera: str) -> Frame | None:
        """Return the newest image of a viewed camera. Never blocks."""

    def instruct(self, text: str) -> Answer:
        """Send an instruction (a task or a stop phrase) and wait for the graph's answer."""

    def arm(self) -> Answer:
        """Request permission to move."""

    def disarm(self) -> Answer:
        """Bring the arm to rest and disarm it."""

    def reset(self) -> Answer:
        """Reset the emergency stop after all buttons have been released."""

    def start_recording(self) -> Answer:
        """Begin recording an episode."""

    def end_recording(self, success: bool | None, keep: bool) -> Answer:
        """End the episode: mark its success (None: unknown) and keep it, or discard it."""
