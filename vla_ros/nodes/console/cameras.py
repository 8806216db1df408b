"""Camera images for the console: JPEGs at a bounded rate, only of the cameras being viewed.

    executor thread      newest serialized image of each camera
    worker thread        decode, downscale, JPEG

Cameras that nobody views are not subscribed to.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection
from dataclasses import dataclass
from functools import partial
from typing import Any

from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.serialization import deserialize_message
from rclpy.subscription import Subscription

from vla_ros.console.link import Frame
from vla_ros.errors import ObservationError
from vla_ros.priority import prefer_thread
from vla_ros.robot.contract import CameraContract, RobotContract
from vla_ros.ros.messages.conversions import camera_image_to_array, camera_message_type
from vla_ros.ros.qos import qos
from vla_ros.types import ImageArray

RATE = 8.0
"""Maximum rate of each camera's images, 1/s."""

WIDEST = 640
"""Maximum image width, px; wider images are downscaled."""

QUALITY = 70
"""JPEG quality, 0 to 100."""

CHOICE_PERIOD = 0.25
"""Period of updating the subscriptions to the cameras being viewed, s."""

NICENESS = 10
"""Niceness of the worker: yields to whatever drives the robot and to this process's emergency stop."""

LONGEST_PAUSE = 0.5
JOIN_TIMEOUT = 2.0


@dataclass
class _View:
    """One camera: its newest serialized image and newest JPEG."""

    contract: CameraContract
    subscription: Subscription | None = None
    raw: bytes | None = None
    received: float | None = None
    number: int = 0
    due: float = 0.0
    frame: Frame | None = None
    trouble: str = ""


class ConsoleCameras:
    """Implements `GraphLink.show` and `GraphLink.frame`."""

    def __init__(self, node: Node, contract: RobotContract) -> None:
        """Begin with no camera viewed; another thread spins `node`."""
        self._node = node
        self._views = {camera.name: _View(camera) for camera in contract.cameras}
        self._shown: frozenset[str] = frozenset()
        self._came = threading.Condition()
        self._closing = False
        # Subscriptions are created and destroyed in the thread that waits on them: the executor's.
        self._timer = node.create_timer(CHOICE_PERIOD, self._choose, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self._worker = threading.Thread(target=self._work, name="console images", daemon=True)
        self._worker.start()

    def show(self, cameras: Collection[str]) -> None:
        """Set the cameras being viewed; call from any thread."""
        self._shown = frozenset(cameras) & frozenset(self._views)

    def frame(self, camera: str) -> Frame | None:
        """Return the newest image of a camera; call from any thread."""
        return self._views[camera].frame

    def status(self) -> list[dict[str, Any]]:
        """Return the status of each camera, JSON-serializable; call from any thread."""
        now = time.monotonic()
        return [
            {
                "name": name,
                "shown": view.subscription is not None,
                "age": None if view.received is None else round(now - view.received, 3),
                "trouble": view.trouble,
            }
            for name, view in self._views.items()
        ]

    def close(self) -> None:
        """Unsubscribe and stop the worker."""
        self.show(())
        with self._came:
            self._closing = True
            self._came.notify_all()
        self._worker.join(JOIN_TIMEOUT)
        self._node.destroy_timer(self._timer)
        self._choose()

    def _choose(self) -> None:
        for name, view in self._views.items():
            if name in self._shown and view.subscription is None:
                view.subscription = self._node.create_subscription(
                    camera_message_type(view.contract),
                    view.contract.topic,
                    partial(self._take, view),
                    qos("camera"),
                    raw=True,
                )
            elif name not in self._shown and view.subscription is not None:
                self._node.destroy_subscription(view.subscription)
                view.subscription, view.raw, view.received, view.frame, view.trouble = None, None, None, None, ""

    def _take(self, view: _View, content: bytes) -> None:
        with self._came:
            view.raw, view.received = content, time.monotonic()
            self._came.notify_all()

    def _work(self) -> None:
        prefer_thread(NICENESS)
        while True:
            with self._came:
                if self._closing:
                    return
                now = time.monotonic()
                waiting = [view for view in self._views.values() if view.raw is not None]
                due = [view for view in waiting if view.due <= now]
                if not due:
                    pause = min((view.due - now for view in waiting), default=LONGEST_PAUSE)
                    self._came.wait(min(pause, LONGEST_PAUSE))
                    continue
                taken = []
                for view in due:
                    taken.append((view, view.raw))
                    view.raw, view.due = None, now + 1.0 / RATE
            for view, content in taken:
                if content is not None:
                    self._encode(view, content)

    def _encode(self, view: _View, content: bytes) -> None:
        try:
            message = deserialize_message(content, camera_message_type(view.contract))
            jpeg = encoded(camera_image_to_array(message, view.contract))
        except Exception as error:  # drivers may send anything
            view.trouble = str(error) if isinstance(error, ObservationError) else f"cannot be read: {error!r}"
            return
        view.number += 1
        view.frame, view.trouble = Frame(view.number, jpeg), ""


def encoded(image: ImageArray) -> bytes:
    """Encode (height, width, 3) uint8 RGB as a JPEG at most `WIDEST` px wide.

    Raises:
        ObservationError: when it cannot be encoded.
    """
    import cv2  # releases the GIL while encoding, unlike Pillow
    import numpy as np

    height, width = image.shape[:2]
    if width > WIDEST:
        size = (WIDEST, max(1, round(height * WIDEST / width)))
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    done, content = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    if not done:
        raise ObservationError(f"an image of {height} x {width} px cannot be coded as JPEG")
    return bytes(content.data)
