"""Synchronizes the images of several cameras and the joint state of the same instant.

    wrist   -----o---------o---------o-      the pivot: one bundle for each of its images
    front   --o----o----o----o----o----      of every other camera, the image nearest to the pivot's
    joints  ..|..|..|..|..|..|..|..|..|      the two states around the oldest of these images, interpolated

A bundle is returned once every source has reached the pivot's stamp, since later items cannot fit better, or after
`patience` with what is available. Buffers are bounded, and unmatched images are counted. Stamps are the sensors', s;
only the patience is measured on the caller's steady clock.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from vla_ros.perception.sensor_buffer import SensorBuffer, Stamped

Picture = TypeVar("Picture")
RawState = TypeVar("RawState")
State = TypeVar("State")

PICTURES_KEPT = 6
"""Images buffered per camera; more would only hold memory: a partner six images late is useless."""

STATES_KEPT = 512
"""Joint states buffered: half a second at 1 kHz."""


@dataclass(frozen=True, eq=False)
class Bundle(Generic[Picture, State]):
    """One instant: an image of every camera, the joint state at that time, and the largest stamp difference, s."""

    pictures: dict[str, Stamped[Picture]]
    state: Stamped[State]
    skew: float

    @property
    def stamp(self) -> float:
        """Oldest stamp of the parts, s."""
        return min(self.state.stamp, *(picture.stamp for picture in self.pictures.values()))


class Synchronizer(Generic[Picture, RawState, State]):
    """Collects parts and returns bundles in stamp order; no image of the pivot is used twice."""

    def __init__(
        self,
        cameras: Mapping[str, float],
        tolerance: float,
        blend: Callable[[RawState, RawState, float], State],
        patience: float = 0.02,
    ) -> None:
        """Prepare empty buffers.

        Args:
            cameras: Name to nominal rate, Hz; all are required, and the slowest is the pivot.
            tolerance: Largest difference of stamps within a bundle, and between two interpolated states, s.
            blend: Interpolates (before, after, fraction 0 to 1); (state, the same, 0) where there is only one. Called
                only for bundles, so that states at 1 kHz cost nothing in between.
            patience: Maximum time an image waits for better partners than the available ones, s.
        """
        if not cameras:
            raise ValueError("a synchronizer needs at least one camera")
        self._tolerance, self._patience, self._blend = tolerance, patience, blend
        self._pivot = min(cameras, key=lambda name: cameras[name])
        self._pictures: dict[str, SensorBuffer[Picture]] = {name: SensorBuffer(PICTURES_KEPT) for name in cameras}
        self._states: SensorBuffer[RawState] = SensorBuffer(STATES_KEPT)
        self._reason = ""
        self.bundles = 0
        self.unmatched = 0

    @property
    def dropped(self) -> int:
        """Number of images dropped because they were not newer than the one before."""
        return sum(source.dropped for source in self._pictures.values())

    def add_image(self, camera: str, stamp: float, picture: Picture, now: float) -> None:
        """Add an image received at `now`."""
        self._pictures[camera].add(Stamped(stamp, picture, now))

    def add_state(self, stamp: float, state: RawState, now: float) -> None:
        """Add a joint state received at `now`; when its clock was set back, earlier images are dropped."""
        if self._states.add(Stamped(stamp, state, now)):
            for source in self._pictures.values():
                source.clear()

    def missing(self) -> list[str]:
        """Return what a bundle still lacks: names of cameras, and "joint states"."""
        lacking = [name for name, source in self._pictures.items() if not source.items]
        return lacking + ([] if self._states.items else ["joint states"])

    def sentence(self) -> str:
        """Return, for users, why the latest attempt gave no bundle, or what the next one waits for."""
        return self._reason or f"waiting for {', '.join(self.missing())}"

    def expires(self, now: float) -> float | None:
        """Return the time until the patience of a waiting image ends, s; None when none is waiting."""
        waiting = [rest for item in self._pictures[self._pivot].items if (rest := self._rest(item, now)) > 0.0]
        return min(waiting, default=None)

    def wants_state(self) -> bool:
        """Return whether a joint state still to come would help a waiting image."""
        pivots, states = self._pictures[self._pivot].items, self._states.items
        return bool(pivots) and not (states and states[-1].stamp >= pivots[-1].stamp)

    def take(self, now: float) -> Bundle[Picture, State] | None:
        """Return the newest bundle available at `now`, or None; older images of the pivot are dropped with it.

        Raises:
            Exception: as raised by `blend`; the image it was called for is dropped.
        """
        pivots = self._pictures[self._pivot].items
        for pivot in reversed(list(pivots)):
            settled = self._is_settled(pivot.stamp)
            if not settled and self._rest(pivot, now) > 0.0:
                continue
            try:
                bundle = self._gather(pivot)
            except Exception:
                pivots.remove(pivot)  # it would fail again in the same way
                self.unmatched += 1
                raise
            if bundle is not None:
                self._forget_before(bundle)
                self._reason = ""
                self.bundles += 1
                return bundle
            if settled:  # no later item can fit better
                pivots.remove(pivot)
                self.unmatched += 1
        return None

    def _rest(self, pivot: Stamped[Picture], now: float) -> float:
        return pivot.received + self._patience - now

    def _is_settled(self, stamp: float) -> bool:
        """Return whether every source has reached `stamp`, so that its best match is known."""
        sources: list[SensorBuffer[Any]] = [*self._pictures.values(), self._states]
        return all(source.items and source.items[-1].stamp >= stamp for source in sources)

    def _gather(self, pivot: Stamped[Picture]) -> Bundle[Picture, State] | None:
        if missing := self.missing():
            self._reason = f"waiting for {', '.join(missing)}"
            return None
        pictures = {name: source.nearest(pivot.stamp) for name, source in self._pictures.items()}
        pictures[self._pivot] = pivot
        oldest = min(pictures, key=lambda name: pictures[name].stamp)
        newest = max(pictures, key=lambda name: pictures[name].stamp)
        skew = pictures[newest].stamp - pictures[oldest].stamp
        if not skew <= self._tolerance:
            self._reason = (
                f"the pictures of {oldest} and {newest} are {skew:.3f} s apart, expected at most {self._tolerance}; "
                "look at their clocks and triggers"
            )
            return None
        state = self._state_at(pictures[oldest].stamp)
        if state is None:
            return None
        skew = max(skew, pictures[newest].stamp - state.stamp, state.stamp - pictures[oldest].stamp)
        if not skew <= self._tolerance:
            self._reason = f"pictures and joint state are {skew:.3f} s apart, expected at most {self._tolerance}"
            return None
        return Bundle(pictures, state, skew)

    def _state_at(self, stamp: float) -> Stamped[State] | None:
        """Return the state at `stamp`: interpolated between its neighbors, or the nearest within the tolerance."""
        after: Stamped[RawState] | None = None
        for before in reversed(self._states.items):
            if before.stamp <= stamp:
                if before.stamp == stamp or after is None or after.stamp - before.stamp > self._tolerance:
                    break
                fraction = (stamp - before.stamp) / (after.stamp - before.stamp)
                return Stamped(stamp, self._blend(before.value, after.value, fraction), after.received)
            after = before
        nearest = self._states.nearest(stamp)
        if not abs(nearest.stamp - stamp) <= self._tolerance:
            self._reason = (
                f"the nearest joint state is {nearest.stamp - stamp:+.3f} s from the pictures, expected at most "
                f"{self._tolerance}; look at the clocks of the cameras and the robot"
            )
            return None
        return Stamped(nearest.stamp, self._blend(nearest.value, nearest.value, 0.0), nearest.received)

    def _forget_before(self, bundle: Bundle[Picture, State]) -> None:
        """Drop images that no later bundle can use: they hold much memory."""
        for name, source in self._pictures.items():
            used = bundle.pictures[name]
            while source.items[0] is not used:
                source.items.popleft()
                self.unmatched += name == self._pivot
        self._pictures[self._pivot].items.popleft()
