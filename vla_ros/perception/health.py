"""Camera health: right frame, stamp and size, an image of a scene, not frozen while the arm moves.

Times are receipt times on the caller's steady clock, s: stamps may jump or be wrong, and do not decide staleness.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np

from vla_ros.robot.sections.camera import CameraContract, CameraHealthLimits
from vla_ros.types import FloatArray, ImageArray


class CameraFault(Enum):
    """Camera faults; the value is the user-facing sentence."""

    NONE = "healthy"
    SILENT = "no image has come yet"
    STALE = "images have stopped coming"
    UNREADABLE = "images cannot be decoded"
    UNSTAMPED = "images carry no time stamp"
    WRONG_FRAME = "images come from another optical frame than the robot contract says"
    WRONG_SIZE = "images have another size than the robot contract says"
    BLACK = "the image is black: lens covered, or no light"
    SATURATED = "the image is white: blinded, or exposure wrong"
    UNIFORM = "the image is uniform: lens covered, or no signal"
    NOISE = "the image is noise: neighboring pixels have nothing in common"
    FROZEN = "the image stays the same while the arm moves"


@dataclass(frozen=True)
class HealthLimits:
    """Health limits common to all cameras; `CameraHealthLimits` in the contract has those of each camera.

    Attributes:
        stale_after: Time without an image, s.
        joint_speed: Upper bound of the joint speed, rad/s. A faster change is a measurement error and not counted as
            motion: an arm that is held because of it never moves again, and its image never changes. Infinite: every
            change counts as motion.
    """

    stale_after: float = 0.5
    joint_speed: float = math.inf


BLACK_LEVEL = 12
"""Level below which all three channels of a black pixel lie, 0 to 255."""

WHITE_LEVEL = 250
"""Level above which all three channels of a white pixel lie, 0 to 255."""

SAMPLE_ROWS = 48
"""Approximate number of rows and columns sampled for the content check: a fault of the whole image shows in them."""

COMPARED_ROWS = 240
"""Approximate number of full rows compared to detect a change of the image."""

SWINGS = 4.0
"""Path length, in multiples of `frozen_travel`, after which a smaller excursion also counts as motion."""

SMALLEST_SWING = 0.5
"""Smallest such excursion, as a fraction of `frozen_travel`: less may not show in the image. Oscillation within it
adds no path length, so an arm at rest with a noisy sensor accumulates none, however long it rests."""

_RATE_WINDOW = 32


@dataclass(frozen=True)
class _Reference:
    """The image since which nothing has changed, and the joint positions at its time."""

    image: ImageArray
    joints: FloatArray


class CameraHealth:
    """Monitors one camera and gives a verdict on every image; a healthy image clears any fault."""

    def __init__(
        self, camera: CameraContract, limits: HealthLimits | None = None, others: Sequence[CameraContract] = ()
    ) -> None:
        """Expect images of `camera` as in its contract; `others` are the robot's other cameras."""
        self._others = {other.frame.lstrip("/"): other.name for other in others}
        self._camera, self._size = camera, (camera.height, camera.width)
        self._limits = limits or HealthLimits()
        self._receipts: deque[float] = deque(maxlen=_RATE_WINDOW)
        self._verdict, self._detail = CameraFault.SILENT, ""
        self._reference: _Reference | None = None
        self._last_seen: tuple[float, FloatArray] | None = None
        self._frozen = False
        self.images = 0
        self.refused = 0

    def refuse(self, fault: CameraFault, detail: str, now: float) -> CameraFault:
        """Record an unusable image received at `now`; `detail` says what was received and expected."""
        self._receive(now)
        return self._conclude(fault, detail)

    def receive(self, image: ImageArray, frame: str, stamp: float, now: float) -> CameraFault:
        """Check an image and its header.

        Args:
            image: (h, w, 3) uint8 RGB.
            frame: Its `frame_id`.
            stamp: Its time stamp, s.
            now: Time of receipt, s, steady clock.
        """
        if frame.lstrip("/") != self._camera.frame.lstrip("/"):
            return self.refuse(CameraFault.WRONG_FRAME, self._other_frame(frame), now)
        if not stamp > 0.0:
            return self.refuse(CameraFault.UNSTAMPED, f"{stamp} s", now)
        return self.check(image, now)

    def _other_frame(self, frame: str) -> str:
        """Describe a wrong frame and the remedy."""
        expected = f"expected '{self._camera.frame}'"
        if not frame.strip("/"):
            return f"frame_id is empty, {expected}: set header.frame_id in the driver"
        if other := self._others.get(frame.lstrip("/")):
            return f"frame_id is '{frame[:64]}', that of camera {other}, {expected}: are the two cameras swapped?"
        return f"frame_id is '{frame[:64]}', {expected}"

    def check(self, image: ImageArray, now: float) -> CameraFault:
        """Check the content of an image (h, w, 3) uint8 RGB received at `now`, without its header."""
        self._receive(now)
        if image.shape[:2] != self._size:
            got, expected = image.shape[:2], self._size
            return self._conclude(
                CameraFault.WRONG_SIZE, f"{got[1]} x {got[0]} px, expected {expected[1]} x {expected[0]}"
            )
        return self._conclude(*check_content(image, self._camera.health))

    def check_motion(self, image: ImageArray, joints: FloatArray, stamp: float) -> CameraFault:
        """Check whether the image has changed while the arm moved.

        An unchanged image is fine while nothing moves. A few changed pixels do not count: a frozen image with a
        flickering pixel is frozen. A single step between two images does not count as motion, since it may be an error
        of the measurement: a joint sensor that had frozen jumps to the actual position, and the arm is held by then. An
        outlier makes two steps, there and back; a swinging arm makes more.

        Args:
            image: An image that `check` found healthy.
            joints: Joint positions (n,) rad at the time of the image.
            stamp: That time, s.
        """
        limits = self._camera.health
        if not limits.expects_motion:
            return self.fault
        moved, jumped = self._moved(joints, stamp)
        if self._reference is None or _changed(image, self._reference.image) > limits.min_changed_fraction:
            self._reference = _Reference(image, np.array(joints))
            self._same, self._travel, self._largest_step, self._frozen = 0, 0.0, 0.0, False
            self._place, self._way = self._reference.joints, np.zeros_like(self._reference.joints)
            self._largest_legs = np.zeros((2, len(joints)))  # per joint
            return self.fault
        self._same += 1
        if jumped:  # not motion: shift the reference as if this offset had always been there
            self._reference = replace(self._reference, joints=self._reference.joints + moved)
            self._place = self._place + moved
        step = 0.0 if jumped else float(np.abs(moved).max())
        # The path length is that of the center of a deadband that each joint drags along: oscillation and noise within
        # the band add nothing, slow motion still does. A NaN joint makes the path length NaN.
        band = 0.5 * SMALLEST_SWING * limits.frozen_travel
        before, self._place = self._place, np.clip(self._place, joints - band, joints + band)
        leg = np.abs(self._place - before)
        self._way = self._way + leg
        self._largest_legs = np.sort(np.vstack([self._largest_legs, leg]), axis=0)[1:]
        self._largest_step = max(self._largest_step, step)
        # The maximum excursion: an arm that returned does not make the image any fresher.
        self._travel = np.maximum(self._travel, np.abs(joints - self._reference.joints).max())
        # `not <=`, here and below: a NaN joint is no proof of rest.
        travelled = not self._travel - self._largest_step <= limits.frozen_travel
        way = float((self._way - self._largest_legs.sum(axis=0)).max())
        swung = any(
            not self._travel <= far * limits.frozen_travel and not way <= long * limits.frozen_travel
            for far, long in ((1.0, 1.0), (SMALLEST_SWING, SWINGS))
        )
        self._frozen = self._same >= limits.frozen_after and (travelled or swung)
        if self._frozen:
            self.refused += 1
            self._detail = f"{self._same + 1} images over {self._travel:.2f} rad"
            if not travelled:
                self._detail += f", {self._way.max():.2f} rad to and fro"
        return self.fault

    def _moved(self, joints: FloatArray, stamp: float) -> tuple[FloatArray, bool]:
        """Return the joint displacement since the last call, (n,) rad, and whether it is too fast to be motion."""
        before, self._last_seen = self._last_seen, (stamp, np.array(joints))
        if before is None:
            return np.zeros_like(joints), False
        moved = joints - before[1]
        return moved, bool(np.abs(moved).max() > self._limits.joint_speed * abs(stamp - before[0]))

    @property
    def fault(self) -> CameraFault:
        """Verdict on the newest image."""
        return CameraFault.FROZEN if self._frozen and self._verdict is CameraFault.NONE else self._verdict

    def watch(self, now: float) -> CameraFault:
        """Return the verdict at `now`, including whether images have stopped."""
        if self._receipts and not now - self._receipts[-1] <= self._limits.stale_after:
            return CameraFault.STALE
        return self.fault

    def sentence(self, now: float) -> str:
        """Return the verdict at `now` as a sentence for users."""
        fault = self.watch(now)
        if fault is CameraFault.STALE:
            return f"{fault.value} (the last one {self.age(now):.1f} s ago)"
        return f"{fault.value} ({self._detail})" if self._detail and fault is not CameraFault.NONE else fault.value

    def age(self, now: float) -> float:
        """Return the age of the newest image, s; infinite before the first."""
        return now - self._receipts[-1] if self._receipts else math.inf

    def rate(self, now: float) -> float:
        """Return the recent image rate, Hz; 0 when images have stopped."""
        if len(self._receipts) < 2 or self.watch(now) is CameraFault.STALE:
            return 0.0
        span = self._receipts[-1] - self._receipts[0]
        return (len(self._receipts) - 1) / span if span > 0.0 else 0.0

    def _receive(self, now: float) -> None:
        if self._receipts and not now - self._receipts[-1] <= self._limits.stale_after:
            self._receipts.clear()  # measure the rate only since images resumed
        self._receipts.append(now)
        self.images += 1

    def _conclude(self, fault: CameraFault, detail: str) -> CameraFault:
        self.refused += fault is not CameraFault.NONE
        self._verdict, self._detail = fault, detail or self._detail
        return self.fault


def check_content(image: ImageArray, limits: CameraHealthLimits) -> tuple[CameraFault, str]:
    """Return the fault in the content of an image (h, w, 3) uint8 RGB with its metrics; NONE when healthy.

    Only a sample of the pixels is checked. Noise is half the mean squared difference of neighboring pixels over the
    variance, 1 - r with r their correlation: the lower one of rows and columns, so that stripes do not count as noise.
    """
    rows, columns = (max(size // SAMPLE_ROWS, 1) for size in image.shape[:2])
    sample = image[::rows, ::columns]
    red, green, blue = sample[..., 0], sample[..., 1], sample[..., 2]
    black = float((np.maximum(np.maximum(red, green), blue) < BLACK_LEVEL).mean())
    if black > limits.max_dark_fraction:
        return CameraFault.BLACK, f"{black:.0%} of the pixels, max_dark_fraction is {limits.max_dark_fraction}"
    white = float((np.minimum(np.minimum(red, green), blue) > WHITE_LEVEL).mean())
    if white > limits.max_bright_fraction:
        return CameraFault.SATURATED, f"{white:.0%} of the pixels, max_bright_fraction is {limits.max_bright_fraction}"
    here = _brightness(sample)
    contrast = float(here.std())
    if not contrast >= limits.min_contrast:
        return CameraFault.UNIFORM, f"contrast {contrast:.1f}, min_contrast is {limits.min_contrast}"
    noise = min(
        _unshared(here, _brightness(image[1::rows, ::columns])), _unshared(here, _brightness(image[::rows, 1::columns]))
    )
    if noise * 0.5 > limits.max_noise * contrast**2:
        return CameraFault.NOISE, f"noise {0.5 * noise / contrast**2:.2f}, max_noise is {limits.max_noise}"
    return CameraFault.NONE, ""


def _brightness(pixels: ImageArray) -> FloatArray:
    """Return the mean of the channels, (h, w), 0 to 255."""
    return (pixels[..., 0].astype(np.float64) + pixels[..., 1] + pixels[..., 2]) / 3.0


def _unshared(pixels: FloatArray, neighbors: FloatArray) -> float:
    """Return the mean squared difference to the neighbors; 0 in an image without neighbors."""
    height, width = np.minimum(pixels.shape, neighbors.shape)
    if not height or not width:
        return 0.0
    return float(np.square(pixels[:height, :width] - neighbors[:height, :width]).mean())


def _changed(image: ImageArray, reference: ImageArray) -> float:
    """Return the fraction of values that differ between two images of one size, from a subset of the rows."""
    step = max(image.shape[0] // COMPARED_ROWS, 1)
    now, before = image[::step], reference[::step]
    return float(np.count_nonzero(now != before)) / now.size
