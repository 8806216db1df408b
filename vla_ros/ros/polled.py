"""Subscription polled by a dedicated thread: messages wait in the middleware, without an executor in between.

Each message comes with the GID of its publisher. rclpy does not expose it, so messages are taken through librcl
directly. Publishers of one topic can thus be distinguished whatever their names, and a message that is too large is
dropped before it is deserialized.
"""

from __future__ import annotations

import ctypes
import functools
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rclpy.callback_groups import CallbackGroup
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.serialization import deserialize_message

LARGEST_MESSAGE = 1 << 20
"""Default limit on the size of a message that is deserialized, bytes."""

_NANOSECONDS = 1e-9
_GID_SIZE = 16  # RMW_GID_STORAGE_SIZE of rmw/types.h
_RET_OK = 0


class _Allocator(ctypes.Structure):
    """rcutils_allocator_t."""

    _fields_ = [(name, ctypes.c_void_p) for name in ("allocate", "deallocate", "reallocate", "zero_allocate", "state")]


class _Bytes(ctypes.Structure):
    """rcutils_uint8_array_t, which is rcl_serialized_message_t."""

    _fields_ = [
        ("buffer", ctypes.c_void_p),
        ("length", ctypes.c_size_t),
        ("capacity", ctypes.c_size_t),
        ("allocator", _Allocator),
    ]


class _Gid(ctypes.Structure):
    """rmw_gid_t."""

    _fields_ = [("implementation", ctypes.c_char_p), ("data", ctypes.c_uint8 * _GID_SIZE)]


class _Info(ctypes.Structure):
    """rmw_message_info_t of Jazzy and Kilted."""

    _fields_ = [
        ("source_timestamp", ctypes.c_int64),
        ("received_timestamp", ctypes.c_int64),
        ("publication_sequence", ctypes.c_uint64),
        ("reception_sequence", ctypes.c_uint64),
        ("gid", _Gid),
        ("from_intra_process", ctypes.c_bool),
    ]


@functools.cache
def _libraries() -> tuple[Any, Any]:
    """Return librcl and librcutils, which rclpy has already loaded."""
    rcl, rcutils = ctypes.CDLL("librcl.so"), ctypes.CDLL("librcutils.so")
    rcutils.rcutils_get_default_allocator.restype = _Allocator
    rcutils.rcutils_uint8_array_init.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]
    rcutils.rcutils_uint8_array_fini.argtypes = [ctypes.c_void_p]
    rcl.rcl_take_serialized_message.argtypes = [ctypes.c_void_p] * 4
    return rcl, rcutils


@dataclass(frozen=True)
class Received:
    """A message with its origin.

    Attributes:
        message: Deserialized message, or its bytes if the subscription leaves it serialized.
        gid: GID of its publisher, as in `TopicEndpointInfo.endpoint_gid`.
        sequence: Sequence number of its publisher; rises with each message.
        received: Time of arrival, s, steady clock.
        late: A newer message of its publisher was returned before: this one was lost and retransmitted.
    """

    message: Any
    gid: bytes
    sequence: int
    received: float
    late: bool = False


class NoExecutor(CallbackGroup):
    """Keeps every executor from waiting for its entities."""

    def can_execute(self, entity: Any) -> bool:  # noqa: ANN401 (any entity)
        """Return False."""
        del entity
        return False

    def beginning_execution(self, entity: Any) -> bool:  # noqa: ANN401
        """Return False."""
        del entity
        return False

    def ending_execution(self, entity: Any) -> None:  # noqa: ANN401
        """Do nothing."""


class PolledSubscription:
    """Messages of one topic. Not thread-safe. Its queues are as deep as the profiles say."""

    def __init__(
        self,
        node: Node,
        kind: type,
        topic: str,
        profiles: QoSProfile | Sequence[QoSProfile],
        largest: int = LARGEST_MESSAGE,
        *,
        serialized: bool = False,
    ) -> None:
        """Subscribe on `node`.

        Args:
            node: Need not be spun.
            kind: Message type.
            topic: Topic name.
            profiles: One subscription each. A reliable and a best-effort one together match every publisher, and
                reliable delivery still holds; a message received through both is returned once. A message that was lost
                in the network and retransmitted is returned after newer ones received best-effort.
            largest: Maximum size of a message that is deserialized, bytes; larger and malformed messages are dropped
                and counted in `unread`.
            serialized: Return messages as bytes: the caller deserializes those it needs.
        """
        self._node, self._kind, self._largest = node, kind, largest
        self._serialized = serialized
        self.unread = self.lost = 0
        self.overrun = False
        self._profiles = [profiles] if isinstance(profiles, QoSProfile) else list(profiles)
        self._subscriptions = [
            node.create_subscription(kind, topic, lambda _: None, profile, callback_group=NoExecutor())
            for profile in self._profiles
        ]
        self._newest: dict[bytes, int] = {}
        self._missing: dict[bytes, deque[int]] = {}  # per publisher: numbers below the newest that have not arrived
        self._taken = time.monotonic()
        _, rcutils = _libraries()
        self._allocator, self._buffer = rcutils.rcutils_get_default_allocator(), _Bytes()
        if rcutils.rcutils_uint8_array_init(ctypes.byref(self._buffer), 0, ctypes.byref(self._allocator)) != _RET_OK:
            raise MemoryError(f"no buffer for the messages of {topic}")

    def take(self) -> list[Received]:
        """Return the messages since the last call, per publisher oldest first except for `late` ones; never blocks.

        Afterwards `overrun` says whether a queue was found full, so messages may have been dropped from it.
        """
        messages: list[Received] = []
        self.overrun = False
        now, wall, last = time.monotonic(), time.time(), self._taken
        for subscription, profile in zip(self._subscriptions, self._profiles, strict=True):
            handle = subscription.handle
            with handle:
                for count in range(1, profile.depth + 1):
                    info = _Info()
                    if not self._take_one(handle, info):
                        break
                    self.overrun = self.overrun or count == profile.depth
                    # The reception stamp is on the wall clock, which may be changed; the time of the last call also
                    # bounds the age.
                    age = min(max(wall - _NANOSECONDS * info.received_timestamp, 0.0), now - last)
                    self._add(messages, info, now - age)
        self._taken = now
        return messages

    def _take_one(self, handle: Any, info: _Info) -> bool:  # noqa: ANN401 (of rclpy's own)
        rcl, _ = _libraries()
        taken = rcl.rcl_take_serialized_message(handle.pointer, ctypes.byref(self._buffer), ctypes.byref(info), None)
        return bool(taken == _RET_OK)

    def _add(self, messages: list[Received], info: _Info, received: float) -> None:
        gid, sequence = bytes(info.gid.data), int(info.publication_sequence)
        before = self._newest.get(gid)
        late = before is not None and len(self._subscriptions) > 1 and sequence <= before
        if late:
            if sequence not in self._missing[gid]:
                return  # already received through the other subscription
            self._missing[gid].remove(sequence)
        else:
            self._follow(gid, sequence, before)
        if self._buffer.length > self._largest:
            self.unread += 1
            return
        raw = ctypes.string_at(self._buffer.buffer, self._buffer.length)
        try:
            message = raw if self._serialized else deserialize_message(raw, self._kind)
        except Exception:  # invalid data must not lose other messages of this batch, such as a press
            self.unread += 1
            return
        messages.append(Received(message, gid, sequence, received, late))

    def _follow(self, gid: bytes, sequence: int, before: int | None) -> None:
        """Register the newest sequence number of a publisher; `before` is the previous one, None at first."""
        if before is None:
            if len(self._newest) >= _MOST_PUBLISHERS:
                forgotten = next(iter(self._newest))
                del self._newest[forgotten], self._missing[forgotten]
            self._missing[gid] = deque(maxlen=_MOST_MISSING)
        else:
            self.lost += max(sequence - before - 1, 0)
        self._missing[gid].extend(range(max((before or 0) + 1, sequence - _MOST_MISSING), sequence))
        self._newest[gid] = sequence

    def close(self) -> None:
        """Unsubscribe."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions = []
        _, rcutils = _libraries()
        rcutils.rcutils_uint8_array_fini(ctypes.byref(self._buffer))


_MOST_PUBLISHERS = 64
"""Maximum number of publishers tracked."""

_MOST_MISSING = 1000
"""Maximum number of missing sequence numbers tracked per publisher, newest kept: as many as the deepest queue holds."""
