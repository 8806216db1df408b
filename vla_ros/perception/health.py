"""Whether a camera tells the truth: the right size, alive, not black, not blinded, not frozen while the arm moves.

Time is the steady clock of the caller, s, at receipt: stamps, which may jump or lie, do not decide what is stale.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from enum import Enum

import numpy as np

from vla_ros.types import FloatArray, ImageArray


class CameraFault(Enum):
    """What can be wrong with a camera; the value is the sentence for people."""

    NONE = "healthy"
    SILENT = "no image has come yet"
    STALE = "images have stopped coming"
    UNREADABLE = "images cannot be decoded"
    UNSTAMPED = "images carry no time stamp"
    WRONG_FRAME = "images come from another optical frame than the robot contract says: are two cameras swapped?"
    WRONG_SIZE = "images have another size than the robot contract says"
    BLACK = "the picture is black: lens covered, or no light"
    SATURATED = "the picture is white: blinded, or exposure wrong"
    FROZEN = "the picture stays the same while the arm moves"


@dataclass(frozen=True)
class HealthLimits:
    """When a camera counts as faulty.

    Attributes:
        stale_after: Time without an image, s.
        black_level: A pixel whose three channels are all darker than this is black, 0 to 255.
        black_share: Share of black pixels from which the picture is.
        white_level: A pixel whose three channels are all brighter than this is white, 0 to 255.
        white_share: Share of white pixels from which the picture is.
        frozen_travel: Way of any joint during which the picture must change, rad.
        frozen_images: So many images in a row must be the same, too: an image is a little older than its stamp says.
        joint_speed: What no joint can exceed, rad/s. A faster change was no motion but a false measurement, and a
            picture that stays the same is judged anew from there: an arm that is held because of it never moves again,
            and its picture never changes. Infinite: every change counts as motion.
    """

    stale_after: float = 0.5
    black_level: int = 12
    black_share: float = 0.98
    white_level: int = 250
    white_share: float = 0.9
    frozen_travel: float = 0.08
    frozen_images: int = 3
    joint_speed: float = math.inf


SAMPLE_ROWS = 48
"""About so many rows and columns are looked at: a fault of the whole picture shows in them, too."""

_RATE_WINDOW = 32


@dataclass(frozen=True)
class _Reference:
    """The picture since which nothing has changed, and where the arm was."""

    image: ImageArray
    joints: FloatArray


class CameraHealth:
    """Watches one camera and comes to a verdict about every image; a sound one ends any fault."""

    def __init__(self, height: int, width: int, limits: HealthLimits | None = None) -> None:
        """Expect images of `height` x `width` px."""
        self._size = (height, width)
        self._limits = limits or HealthLimits()
        self._receipts: deque[float] = deque(maxlen=_RATE_WINDOW)
        self._verdict, self._detail = CameraFault.SILENT, ""
        self._reference: _Reference | None = None
        self._last_seen: tuple[float, FloatArray] | None = None
        self._same, self._travel, self._frozen = 0, 0.0, False
        self.images = 0
        self.refused = 0

    def refuse(self, fault: CameraFault, detail: str, now: float) -> CameraFault:
        """Note an image that came at `now` and is of no use; `detail` says what was got and expected."""
        self._receive(now)
        return self._conclude(fault, detail)

    def check(self, image: ImageArray, now: float) -> CameraFault:
        """Judge an image (h, w, 3) uint8 RGB that came at `now`, by itself."""
        self._receive(now)
        if image.shape[:2] != self._size:
            got, expected = image.shape[:2], self._size
            return self._conclude(
                CameraFault.WRONG_SIZE, f"{got[1]} x {got[0]} px, expected {expected[1]} x {expected[0]}"
            )
        sample = _sample(image)
        black = float((sample.max(axis=2) < self._limits.black_level).mean())
        if black >= self._limits.black_share:
            return self._conclude(CameraFault.BLACK, f"{black:.0%} of the pixels")
        white = float((sample.min(axis=2) > self._limits.white_level).mean())
        if white >= self._limits.white_share:
            return self._conclude(CameraFault.SATURATED, f"{white:.0%} of the pixels")
        return self._conclude(CameraFault.NONE, "")

    def check_motion(self, image: ImageArray, joints: FloatArray, stamp: float) -> CameraFault:
        """Judge whether the picture has changed while the arm did.

        A picture that is the same to the last bit is fine as long as nothing moves.

        Args:
            image: One that `check` found sound.
            joints: Positions (n,) rad at the time that the image shows.
            stamp: That time, s.
        """
        if self._reference is None or self._jumped(joints, stamp) or not _same(image, self._reference.image):
            self._reference, self._same, self._travel, self._frozen = _Reference(image, np.array(joints)), 0, 0.0, False
            return self.fault
        self._same += 1
        # The farthest it has been: an arm that came back does not make the picture any fresher.
        self._travel = np.maximum(self._travel, np.abs(joints - self._reference.joints).max())
        # `not <=`: a joint that is no number is no proof of rest.
        self._frozen = self._same >= self._limits.frozen_images and not self._travel <= self._limits.frozen_travel
        if self._frozen:
            self.refused += 1
            self._detail = f"{self._same + 1} images over {self._travel:.2f} rad"
        return self.fault

    def _jumped(self, joints: FloatArray, stamp: float) -> bool:
        """Say whether the joints are further from where they were last than they can have gone."""
        before, self._last_seen = self._last_seen, (stamp, np.array(joints))
        if before is None:
            return False
        return bool(np.abs(joints - before[1]).max() > self._limits.joint_speed * abs(stamp - before[0]))

    @property
    def fault(self) -> CameraFault:
        """The verdict about the newest image."""
        return CameraFault.FROZEN if self._frozen and self._verdict is CameraFault.NONE else self._verdict

    def watch(self, now: float) -> CameraFault:
        """Return the verdict at `now`, which may be that nothing comes any more."""
        if self._receipts and not now - self._receipts[-1] <= self._limits.stale_after:
            return CameraFault.STALE
        return self.fault

    def sentence(self, now: float) -> str:
        """Return the verdict at `now` for people."""
        fault = self.watch(now)
        if fault is CameraFault.STALE:
            return f"{fault.value} (the last one {self.age(now):.1f} s ago)"
        return f"{fault.value} ({self._detail})" if self._detail and fault is not CameraFault.NONE else fault.value

    def age(self, now: float) -> float:
        """Return how long ago the newest image came, s; infinite before the first."""
        return now - self._receipts[-1] if self._receipts else math.inf

    def rate(self, now: float) -> float:
        """Return the images a second over the recent ones; 0 when they have stopped."""
        if len(self._receipts) < 2 or self.watch(now) is CameraFault.STALE:
            return 0.0
        span = self._receipts[-1] - self._receipts[0]
        return (len(self._receipts) - 1) / span if span > 0.0 else 0.0

    def _receive(self, now: float) -> None:
        if self._receipts and not now - self._receipts[-1] <= self._limits.stale_after:
            self._receipts.clear()  # the rate is that of the images since they came back
        self._receipts.append(now)
        self.images += 1

    def _conclude(self, fault: CameraFault, detail: str) -> CameraFault:
        self.refused += fault is not CameraFault.NONE
        self._verdict, self._detail = fault, detail or self._detail
        return self.fault


def _sample(image: ImageArray) -> ImageArray:
    rows, columns = (max(size // SAMPLE_ROWS, 1) for size in image.shape[:2])
    return image[::rows, ::columns]


def _same(a: ImageArray, b: ImageArray) -> bool:
    """Tell whether two pictures of one size are equal to the last bit; the sample settles it for most that are not."""
    return bool(np.array_equal(_sample(a), _sample(b)) and np.array_equal(a, b))
