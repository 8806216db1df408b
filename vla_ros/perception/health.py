"""Whether a camera tells the truth: the right size, alive, not black, not blinded, not frozen while the arm moves."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np

from vla_ros.types import FloatArray, ImageArray


class CameraFault(Enum):
    """What can be wrong with a camera; the value is the sentence for people."""

    NONE = "healthy"
    SILENT = "no image has come yet"
    STALE = "images have stopped coming"
    WRONG_SIZE = "images have another size than the robot contract says"
    UNREADABLE = "images cannot be decoded"
    BLACK = "the picture is black: lens covered, or no light"
    SATURATED = "the picture is white: blinded, or exposure wrong"
    FROZEN = "the picture stays the same while the arm moves"


@dataclass(frozen=True)
class HealthLimits:
    """When a camera counts as faulty.

    Attributes:
        stale_after: Time without an image, s on the steady clock.
        black_below: Mean brightness, 0 to 255.
        white_above: Mean brightness, 0 to 255.
        frozen_travel: Way of any joint during which the picture must change, rad.
    """

    stale_after: float = 0.5
    black_below: float = 4.0
    white_above: float = 251.0
    frozen_travel: float = 0.05


SAMPLE_STRIDE = 8
"""Every eighth pixel each way is looked at: a fault of the whole picture shows there too."""


class CameraHealth:
    """Watches one camera; `fault` is the present verdict."""

    def __init__(self, height: int, width: int, limits: HealthLimits | None = None) -> None:
        """Expect images of `height` x `width` px."""
        self._size = (height, width)
        self._limits = limits or HealthLimits()
        self._last_receipt: float | None = None
        self._sample: ImageArray | None = None
        self._joints_at_change: FloatArray | None = None
        self.fault = CameraFault.SILENT
        self.images = 0

    def unreadable(self, now: float) -> CameraFault:
        """Note an image that could not be decoded; `now` is the steady clock, s."""
        self._last_receipt = now
        self.fault = CameraFault.UNREADABLE
        return self.fault

    def check(self, image: ImageArray, joints: FloatArray | None, now: float) -> CameraFault:
        """Judge a new image.

        Args:
            image: (h, w, 3) uint8 RGB.
            joints: Joint positions (n,) rad at that time, None when they are not known.
            now: Steady clock, s.
        """
        self._last_receipt = now
        self.images += 1
        self.fault = self._judge(image, joints)
        return self.fault

    def _judge(self, image: ImageArray, joints: FloatArray | None) -> CameraFault:
        if image.shape[:2] != self._size:
            return CameraFault.WRONG_SIZE
        sample = image[::SAMPLE_STRIDE, ::SAMPLE_STRIDE]
        brightness = float(sample.mean())
        if not brightness >= self._limits.black_below:
            return CameraFault.BLACK
        if not brightness <= self._limits.white_above:
            return CameraFault.SATURATED
        changed = self._sample is None or not np.array_equal(sample, self._sample)
        if changed or joints is None or self._joints_at_change is None:
            self._sample = sample.copy()
            self._joints_at_change = None if joints is None else np.array(joints)
            return CameraFault.NONE
        # The same picture to the last bit is fine as long as nothing moves.
        if float(np.abs(joints - self._joints_at_change).max()) > self._limits.frozen_travel:
            return CameraFault.FROZEN
        return CameraFault.NONE

    def watch(self, now: float) -> CameraFault:
        """Return the verdict at `now` (steady clock, s), which may be that nothing comes any more."""
        if self._last_receipt is not None and not now - self._last_receipt <= self._limits.stale_after:
            self.fault = CameraFault.STALE
        return self.fault
