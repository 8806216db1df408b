"""Brings the newest pictures of several cameras and the joint state of the same instant together.

Buffers are bounded; what is too old to find partners is dropped and counted. Time is the stamp of the sensors.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

Picture = TypeVar("Picture")
State = TypeVar("State")

BACKWARD_RESTART = 5
"""After so many items in a row that are older than what was delivered, the clock is taken to have jumped back."""


@dataclass(frozen=True)
class Stamped(Generic[Picture]):
    """A value and its stamp, s."""

    stamp: float
    value: Picture


@dataclass(frozen=True)
class Bundle(Generic[Picture, State]):
    """One instant: a picture of every camera, the state nearest to them, and the largest difference of stamps, s."""

    pictures: dict[str, Stamped[Picture]]
    state: Stamped[State]
    skew: float

    @property
    def stamp(self) -> float:
        """The oldest stamp among the parts, s."""
        return min(self.state.stamp, *(picture.stamp for picture in self.pictures.values()))


class Synchroniser(Generic[Picture, State]):
    """Collects parts and gives out bundles, newest first and never the same pictures twice."""

    def __init__(self, cameras: Iterable[str], tolerance: float, buffer: int = 4, states: int = 50) -> None:
        """Prepare empty buffers.

        Args:
            cameras: All must be there.
            tolerance: Largest difference of stamps in one bundle, s.
            buffer: Pictures kept a camera.
            states: Joint states kept.
        """
        self.tolerance = tolerance
        self._pictures: dict[str, deque[Stamped[Picture]]] = {name: deque(maxlen=buffer) for name in cameras}
        if not self._pictures:
            raise ValueError("a synchroniser needs at least one camera")
        self._states: deque[Stamped[State]] = deque(maxlen=states)
        self._delivered = -float("inf")
        self._backward = 0
        self.dropped = 0
        self.unmatched = 0

    def add_picture(self, camera: str, stamp: float, picture: Picture) -> None:
        """Take a picture; one that is older than what was delivered is dropped."""
        queue = self._pictures[camera]
        if stamp <= self._delivered:
            self.dropped += 1
            self._backward += 1
            if self._backward < BACKWARD_RESTART:
                return
            self.restart()
        self._backward = 0
        if len(queue) == queue.maxlen:
            self.dropped += 1
        queue.append(Stamped(stamp, picture))

    def add_state(self, stamp: float, state: State) -> None:
        """Take a joint state; after a jump backward the older ones are forgotten."""
        if self._states and stamp < self._states[-1].stamp:
            self._states.clear()
        self._states.append(Stamped(stamp, state))

    def restart(self) -> None:
        """Forget everything, as after a jump of the clock."""
        for queue in self._pictures.values():
            queue.clear()
        self._delivered = -float("inf")
        self._backward = 0

    def missing(self) -> list[str]:
        """Return what a bundle still lacks: cameras by name, and "joint states"."""
        lacking = [name for name, queue in self._pictures.items() if not queue]
        return lacking + ([] if self._states else ["joint states"])

    def take(self) -> Bundle[Picture, State] | None:
        """Return the newest bundle whose parts lie within the tolerance, or None."""
        if self.missing():
            return None
        # The slowest camera decides the instant; of the others the nearest picture is taken.
        instant = min(queue[-1].stamp for queue in self._pictures.values())
        pictures = {name: _nearest(queue, instant) for name, queue in self._pictures.items()}
        state = _nearest(self._states, instant)
        stamps = [state.stamp, *(picture.stamp for picture in pictures.values())]
        skew = max(stamps) - min(stamps)
        if not skew <= self.tolerance:
            self.unmatched += 1
            return None
        for name, queue in self._pictures.items():
            while queue and queue[0].stamp <= pictures[name].stamp:
                queue.popleft()
        self._delivered = instant
        return Bundle(pictures, state, skew)


Item = TypeVar("Item")


def _nearest(queue: Iterable[Stamped[Item]], instant: float) -> Stamped[Item]:
    return min(queue, key=lambda item: abs(item.stamp - instant))
