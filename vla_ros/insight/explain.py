"""Explains why the arm moved, slowed or stopped at one moment of a trace, from the messages recorded then.

Nothing is inferred from images or networks: each sentence repeats a node's message, or compares two recorded numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from vla_ros.data.errors import DataError
from vla_ros.errors import UsageError
from vla_ros.insight.trace.layout import INCIDENT_TOPIC, OBSERVATION_TOPIC, camera_of
from vla_ros.insight.trace.reader import NS, Trace
from vla_ros.types import SafetyState

SAFETY, CHUNK, TASK, POLICY = "vla/safety_status", "vla/action_chunk", "vla/task", "vla/policy_status"
ANSWERS, REJECTED, STOPS = "vla/instruction_status", "vla/instruction_rejected", "vla/stop_status"
DIAGNOSTICS = "diagnostics"

RECENT = 10.0
"""Time for which a node's answer is reported, s."""

SAME = 1e-3
"""Largest difference from the proposal at which a command counts as unmodified, m or rad."""

AT_REST = 0.01
"""Joint speed below which the arm is at rest, rad/s (m/s for a prismatic joint)."""

STALE = 1.0
"""Age beyond which a status is not used, s."""

TOOL_UNITS = {"x": "m", "y": "m", "z": "m", "gripper": "m"}
MARGIN_UNITS = {
    "joint_position": "rad",
    "workspace": "m",
    "self_collision": "m",
    "obstacle": "m",
    "joint_velocity": "of the limit",
    "joint_state": "s",
    "chunk": "s",
    "observation": "s",
    "heartbeat": "s",
}
LEVELS = {
    b"\x01": "a warning",
    b"\x02": "an error",
    b"\x03": "that it is stale",
    1: "a warning",
    2: "an error",
    3: "that it is stale",
}
DOING = {
    SafetyState.DISARMED: "was disarmed: no command reached the robot",
    SafetyState.RUN: "was driven by the policy",
    SafetyState.SLOW: "was slowed down",
    SafetyState.HOLD: "was stopped and held",
    SafetyState.ESTOP: "was stopped by the emergency stop",
}


@dataclass(frozen=True)
class Moment:
    """State and explanation of one instant.

    Attributes:
        seconds: Time since the start of the trace, s.
        clock: Local time, as text.
        state: State of the safety layer: RUN, SLOW, HOLD, ESTOP, DISARMED, or "" if it sent no status.
        reason: Label of the reason.
        sentences: The explanation, most important first.
        images: Camera to (age in s at that instant, JPEG).
    """

    seconds: float
    clock: str
    state: str
    reason: str
    sentences: tuple[str, ...]
    images: Mapping[str, tuple[float, bytes]]


@dataclass(frozen=True)
class Change:
    """A change of the safety layer's state or reason.

    Attributes:
        at: ns.
        state: Name of the new state.
        reason: Label of the new reason.
        sentence: Explanation for users.
    """

    at: int
    state: str
    reason: str
    sentence: str


def parse_time(text: str, trace: Trace) -> int:
    """Parse a time within a trace to an instant, ns.

    Args:
        text: "12.5" s after the start, "-3" s before the end, "14:03:22.5" local time, or "end".
        trace: The trace.

    Raises:
        UsageError: when it is not a time, or outside the trace.
    """
    try:
        at = _instant(text.strip(), trace)
    except (ValueError, OverflowError) as error:
        raise UsageError(
            f"--at is {text!r}, expected seconds since the beginning (12.5), before the end (-3), a time of day "
            "(14:03:22), or end"
        ) from error
    if not trace.start <= at <= trace.end:
        raise UsageError(
            f"--at {text} lies outside of the trace, which runs from 0 to {trace.seconds:.1f} s "
            f"({clock_time(trace.start)} to {clock_time(trace.end)})"
        )
    return at


def _instant(text: str, trace: Trace) -> int:
    if text == "end":
        return trace.end
    if ":" in text:
        moment = datetime.strptime(text, "%H:%M:%S.%f" if "." in text else "%H:%M:%S")
        for bound in (trace.start, trace.end):  # a trace may span midnight
            day = datetime.fromtimestamp(bound / NS).date()
            at = round(datetime.combine(day, moment.time()).timestamp() * NS)
            if trace.start <= at <= trace.end:
                break
        return at
    seconds = float(text)
    if not math.isfinite(seconds):
        raise ValueError(text)
    base = trace.end if text.startswith("-") else trace.start
    return base + round(seconds * NS)


def clock_time(at: int) -> str:
    """Format ns as local time of day."""
    return f"{datetime.fromtimestamp(at / NS):%H:%M:%S.%f}"[:-5]


def changes(trace: Trace) -> list[Change]:
    """Return every change of the safety layer's state or reason, in order.

    Raises:
        DataError: when the messages are of another version.
    """
    found: list[Change] = []
    with naming_other_version(trace):
        for at, message in trace.all(SAFETY):
            state, reason = str(message.state_name), str(message.reason)
            if not found or (found[-1].state, found[-1].reason) != (state, reason):
                found.append(Change(at, state, reason, str(message.sentence)))
    return found


@contextmanager
def naming_other_version(trace: Trace) -> Iterator[None]:
    """Turn access to a missing message field into `DataError`."""
    try:
        yield
    except AttributeError as error:
        raise DataError(
            f"{trace.path} was recorded with other message definitions ({error}): read it with the vla_ros that wrote "
            "it"
        ) from error


def explain(trace: Trace, at: int, history: Sequence[Change]) -> Moment:
    """Explain the instant `at`, ns; `history` is the result of `changes`.

    Raises:
        DataError: when the messages are of another version, or damaged.
    """
    with naming_other_version(trace):
        found = trace.last(SAFETY, at)
        status = found[1] if found is not None and at - found[0] <= STALE * NS else None
        sentences = tuple(_sentences(trace, at, status, history))
        images = images_at(trace, at)
        state, reason = (str(status.state_name), str(status.reason)) if status is not None else ("", "")
    return Moment((at - trace.start) / NS, clock_time(at), state, reason, sentences, images)


def images_at(trace: Trace, at: int) -> dict[str, tuple[float, bytes]]:
    """Return camera to the age (s) and the JPEG of its newest image at `at`, ns."""
    found = {}
    for key in trace.keys("/compressed"):
        if (camera := camera_of(key)) and (image := trace.last(key, at)):
            found[camera] = ((at - image[0]) / NS, bytes(image[1].data))
    return found


def _sentences(trace: Trace, at: int, status: Any, history: Sequence[Change]) -> Iterator[str]:  # noqa: ANN401
    if status is None:
        yield "The safety layer said nothing at that time, so nothing is known about the arm's command."
    else:
        since = max((change.at for change in history if change.at <= at), default=at)
        yield _state_sentence(status, (at - since) / NS)
    yield from _motion(trace, at)
    yield from _instruction(trace, at)
    yield from _plan(trace, at, status)
    if status is not None:
        yield from _correction(status)
        yield from _room(status)
    yield from _answers(trace, at)
    yield from _throttled(trace, at)
    if following := next((change for change in history if change.at > at), None):
        seconds = (following.at - at) / NS
        yield f"{seconds:.1f} s later the state was {following.state} ({following.reason}): {following.sentence}"


def _state_sentence(status: Any, seconds: float) -> str:  # noqa: ANN401 (a decoded message)
    doing = DOING.get(status.state, f"was in state {status.state_name}")
    if status.state == SafetyState.SLOW:
        doing = f"was slowed down to {100.0 * status.speed_scale:.0f} % of the proposed speed"
    return f"The arm {doing} ({status.state_name}, {status.reason}, for {seconds:.1f} s): {status.sentence}"


def _motion(trace: Trace, at: int) -> Iterator[str]:
    found = trace.last(OBSERVATION_TOPIC, at)
    if found is None or at - found[0] > STALE * NS:
        return
    observation = found[1]
    speeds = {n: abs(v) for n, v in zip(observation.joint_names, observation.joint_velocities, strict=False)}
    if not speeds:
        return
    age = (at - found[0]) / NS
    fastest = max(speeds, key=lambda name: speeds[name])
    if speeds[fastest] <= AT_REST:
        yield f"Measured {age:.2f} s earlier: it stood still."
    else:
        yield f"Measured {age:.2f} s earlier: it moved, its fastest joint, {fastest}, at {speeds[fastest]:.2f} rad/s."


def _instruction(trace: Trace, at: int) -> Iterator[str]:
    found = trace.last(TASK, at)
    if found is None:
        yield "No instruction had been accepted by then."
        return
    received, task = found
    what = "An order to stop was in force" if task.kind else "The instruction in force was"
    yield f"{what} (number {task.sequence}, given {(at - received) / NS:.1f} s earlier): '{task.text}'."


def _plan(trace: Trace, at: int, status: Any) -> Iterator[str]:  # noqa: ANN401
    found = trace.last(CHUNK, at)
    if found is None:
        yield "The policy had not sent a plan by then."
        return
    received, chunk = found
    age = (at - received) / NS
    yield (
        f"The newest plan was chunk {chunk.sequence} of policy '{chunk.policy}' ({chunk.horizon} steps of "
        f"{chunk.period:.2g} s, confidence {chunk.trust:.2f}), sent {age:.2f} s earlier for instruction "
        f"{chunk.instruction_sequence}; it came from observation {chunk.observation_sequence}"
        f"{_cameras(trace, at, chunk)}."
    )
    if status is not None and status.observation_age >= 0.0:
        yield f"The observation behind the command was {status.observation_age:.2f} s old."


def _cameras(trace: Trace, at: int, chunk: Any) -> str:  # noqa: ANN401
    stamp = chunk.observation_stamp
    told = f", stamped {stamp.sec}.{stamp.nanosec:09d} s"
    for _, observation in trace.between(OBSERVATION_TOPIC, at - round(RECENT * NS), at):
        if (observation.sequence, observation.header.stamp.sec) == (chunk.observation_sequence, stamp.sec):
            return f" of {', '.join(map(str, observation.camera_names))}{told}"
    return told


def _correction(status: Any) -> Iterator[str]:  # noqa: ANN401
    off = differences(status)
    if not off:
        return
    axis = max(off, key=lambda name: abs(off[name][0] - off[name][1]))
    proposed, executed = off[axis]
    if abs(proposed - executed) <= SAME:
        yield "The command was the one that the policy proposed."
        return
    unit = TOOL_UNITS.get(axis, "rad")
    count = sum(abs(p - e) > SAME for p, e in off.values())
    yield (
        f"The command differed from the proposal in {count} of {len(off)} axes, most in {axis}: proposed "
        f"{proposed:.3f} {unit}, commanded {executed:.3f} {unit}."
    )


def differences(status: Any) -> dict[str, tuple[float, float]]:  # noqa: ANN401
    """Return axis to (proposed, executed) where both are finite."""
    rows = zip(status.axes, status.proposed, status.executed, strict=False)
    return {str(a): (float(p), float(e)) for a, p, e in rows if math.isfinite(p) and math.isfinite(e)}


def _room(status: Any) -> Iterator[str]:  # noqa: ANN401
    rows = [(str(n), float(v)) for n, v in zip(status.margin_names, status.margins, strict=False) if math.isfinite(v)]
    if rows:
        told = ", ".join(f"{n} {v:.3g} {MARGIN_UNITS.get(n, '')}".rstrip() for n, v in rows)
        yield f"Room left before a limit acts: {told}."


def _answers(trace: Trace, at: int) -> Iterator[str]:
    first = at - round(RECENT * NS)
    for received, message in trace.between(REJECTED, first, at):
        yield f"{(at - received) / NS:.1f} s earlier a sentence was refused: {message.data}"
    told = ""
    for received, message in trace.between(ANSWERS, first, at):
        if message.request_id and not message.request_accepted and message.request_id != told:
            told = message.request_id
            yield f"{(at - received) / NS:.1f} s earlier a request was answered: {message.sentence}"
    found = trace.last(POLICY, at)
    if found is not None and at - found[0] <= STALE * NS and found[1].sentence:
        yield f"The policy said: {found[1].sentence}"


def _throttled(trace: Trace, at: int) -> Iterator[str]:
    newest: dict[str, Any] = {}
    for _, message in trace.between(DIAGNOSTICS, at - 2 * NS, at):
        for status in message.status:
            newest[str(status.name)] = status
    for name, status in newest.items():
        if status.level in LEVELS:
            yield f"{name} reported {LEVELS[status.level]}: {status.message}"
    for received, message in [*trace.between(INCIDENT_TOPIC, at - round(RECENT * NS), at)][-1:]:
        yield f"{(at - received) / NS:.1f} s earlier something went wrong, so the trace was kept: {message.data}"
