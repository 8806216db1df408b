"""Tampering functions for sensor messages: each takes a message and returns what is relayed.

Independent of topics and nodes; `tamper_node` applies them.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image, JointState

from vla_ros.ros.messages.conversions import seconds_to_stamp, stamp_to_seconds

SKEW = 0.2
"""Offset of a skewed camera's stamps, s."""

DARK_KEPT = 0.03
"""Fraction of the rows that a darkened image keeps."""

FAR = 0.5
"""Offset of a falsely measured joint, rad."""


def shifted(message: Any, seconds: float) -> Any:  # noqa: ANN401 (a message with a header, or a clock)
    """Shift a message's time by `seconds`."""
    if isinstance(message, Clock):
        message.clock = seconds_to_stamp(max(stamp_to_seconds(message.clock) + seconds, 0.0))
    else:
        message.header.stamp = seconds_to_stamp(max(stamp_to_seconds(message.header.stamp) + seconds, 0.0))
    return message


def filled(value: int) -> Callable[[Image], Image]:
    """Return a function that sets every pixel to `value`."""

    def fill(image: Image) -> Image:
        image.data = np.full(len(image.data), value, dtype=np.uint8).tobytes()
        return image

    return fill


def halved(image: Image) -> Image:
    """Keep the upper half: a self-consistent image whose height differs from the contract's."""
    image.height //= 2
    image.data = image.data[: image.height * image.step]
    return image


def with_encoding(name: str) -> Callable[[Image], Image]:
    """Return a function that relabels the encoding."""

    def rename(image: Image) -> Image:
        image.encoding = name
        return image

    return rename


class Noise:
    """Replaces every pixel by noise; the same seed gives the same images."""

    def __init__(self) -> None:
        """Seed the generator with 0."""
        self._rng = np.random.default_rng(0)

    def __call__(self, image: Image) -> Image:
        """Return noise with the header of `image`."""
        image.data = self._rng.integers(0, 256, len(image.data), np.uint8).tobytes()
        return image


def darkened(image: Image) -> Image:
    """Black out all but the upper 3 % of the image."""
    kept = max(round(DARK_KEPT * image.height), 1) * image.step
    image.data = bytes(image.data[:kept]) + bytes(len(image.data) - kept)
    return image


class Frozen:
    """Repeats the first image with fresh stamps."""

    def __init__(self) -> None:
        """Begin without an image."""
        self._first: Image | None = None

    def __call__(self, image: Image) -> Image:
        """Return the first image with the current stamp."""
        self._first = self._first or copy.copy(image)
        self._first.header = image.header
        return self._first


class Flickering:
    """Repeats the first image with fresh stamps, except for one value that changes every time."""

    def __init__(self) -> None:
        """Begin without an image."""
        self._frozen, self._count = Frozen(), 0

    def __call__(self, image: Image) -> Image:
        """Return the first image with the current stamp and a different value in its middle."""
        frozen = copy.copy(self._frozen(image))
        data = bytearray(frozen.data)
        self._count += 1
        data[len(data) // 2] = self._count % 256
        frozen.data = bytes(data)
        return frozen


IMAGES: Mapping[str, Callable[[], Callable[[Image], Image | None]]] = {
    "silent": lambda: lambda image: None,
    "frozen": Frozen,
    "flickering": Flickering,
    "black": lambda: filled(0),
    "gray": lambda: filled(128),
    "dark": lambda: darkened,
    "noise": Noise,
    "white": lambda: filled(255),
    "half": lambda: halved,
    "encoding": lambda: with_encoding("bayer_of_mars"),
    "skewed": lambda: lambda image: shifted(image, -SKEW),
}
"""Maps each name to a factory for one camera's tampering."""


def partial(state: JointState) -> JointState:
    """Remove the third joint."""
    for field in ("name", "position", "velocity", "effort"):
        values = list(getattr(state, field))
        if len(values) > 2:
            del values[2]
        setattr(state, field, values)
    return state


def reordered(state: JointState) -> JointState:
    """Reverse the order of the joints."""
    for field in ("name", "position", "velocity", "effort"):
        setattr(state, field, list(getattr(state, field))[::-1])
    return state


def with_position(value: float) -> Callable[[JointState], JointState]:
    """Return a function that sets the measured position of the second joint, rad."""

    def change(state: JointState) -> JointState:
        positions = list(state.position)
        positions[1] = value
        state.position = positions
        return state

    return change


def far(state: JointState) -> JointState:
    """Shift the second joint by `FAR`."""
    return with_position(state.position[1] + FAR)(state)


class Repeated:
    """Repeats the first state, including its stamp."""

    def __init__(self) -> None:
        """Begin without a state."""
        self._first: JointState | None = None

    def __call__(self, state: JointState) -> JointState:
        """Return the first state."""
        self._first = self._first or state
        return self._first


class Unmoving:
    """Repeats the first positions, at rest, with fresh stamps."""

    def __init__(self) -> None:
        """Begin without a state."""
        self._positions: list[float] | None = None

    def __call__(self, state: JointState) -> JointState:
        """Return the first positions with the current stamp."""
        self._positions = self._positions or list(state.position)
        state.position, state.velocity = self._positions, [0.0] * len(state.velocity)
        return state


def swapped(state: JointState) -> JointState:
    """Swap the values of the first two joints."""
    for field in ("position", "velocity", "effort"):
        values = list(getattr(state, field))
        values[:2] = values[1::-1]
        setattr(state, field, values)
    return state


class Late:
    """Delivers every other state late, after its successor."""

    def __init__(self) -> None:
        """Begin without a delayed state."""
        self._waiting: JointState | None = None

    def __call__(self, state: JointState) -> JointState | None:
        """Return the previous state on every other call."""
        waiting, self._waiting = self._waiting, None if self._waiting else state
        return waiting


STATES: Mapping[str, Callable[[], Callable[[JointState], JointState | None]]] = {
    "silent": lambda: lambda state: None,
    "partial": lambda: partial,
    "reordered": lambda: reordered,
    "nan": lambda: with_position(float("nan")),
    "huge": lambda: with_position(1e300),
    "far": lambda: far,
    "repeated": Repeated,
    "frozen": Unmoving,
    "swapped": lambda: swapped,
    "late": Late,
}
"""Maps each name to a factory for the tampering of joint states."""
