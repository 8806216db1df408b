"""One attempt at a fault: motion, injection, reaction, rest, judgement, and the documented recovery."""

from __future__ import annotations

import contextlib
import time

from vla_ros.client.observer import MOVING
from vla_ros.errors import InstructionError
from vla_ros.msg import SafetyStatus
from vla_ros.ros.transitions import GraphError
from vla_ros.safety.reasons import Reason
from vla_ros.safety_bench.graph.faults.fault import GraphFault, GraphRow
from vla_ros.safety_bench.graph.recorder import Said
from vla_ros.safety_bench.graph.scenario import Scenario
from vla_ros.safety_bench.graph.stage import Findings
from vla_ros.safety_bench.referee.stopping import compare_stop

STARVED = ("state_stale", "ticks_missed", "tick_overrun", "tracking", "policy_silent", "chunk_stale", "policy_waiting")
"""Reasons of a hold that may mean a busy machine; if they are not the fault's, it is tried again."""

ATTEMPTS = 4

RESUME_LIMIT = 90.0
"""Wall-clock limit until the arm follows its policy again, s: a killed policy reloads its network."""

WINDOW = 2.0
"""Observation time for a fault that need not stop the arm, s."""

REST = 0.6
"""Time after the reaction by which the arm must rest, s: the longest stop takes 0.4 s."""

RETREAT = 2.0
"""Additional time in which it may back off from a contact, s."""

PATIENCE = 2.0
"""Time after its deadline for which a reaction is still awaited, s, to report how late it was."""

AT_REST = 0.02
"""Measured speed of the fastest joint that counts as rest, rad/s. Simulated physics, so not exactly zero."""


def try_fault(scenario: Scenario, fault: GraphFault, seed: int, attempt: int) -> GraphRow:
    """Try a fault, again if the busy machine rather than the fault stopped the arm. Limits are checked in every try."""
    total = Findings()
    for starved in range(ATTEMPTS):
        row, found = _try(scenario, fault, seed)
        total.add(found)
        row.attempt, row.starved = attempt, starved
        if row.stopped or not _starved(row, fault):
            break
    row.commands, row.lost, row.violations, row.by_kind = total.commands, total.lost, total.violations, total.by_kind
    if total.violations:
        row.stopped, row.sentence = False, f"{total.violations} violations: {total.by_kind}"
    return row


def _starved(row: GraphRow, fault: GraphFault) -> bool:
    reason = row.got.partition(": ")[2] or row.got
    return reason in STARVED and reason not in fault.reasons


def _try(scenario: Scenario, fault: GraphFault, seed: int) -> tuple[GraphRow, Findings]:
    deadline = fault.deadline
    row = GraphRow(fault.name, fault.row, deadline_ms=None if deadline is None else round(1e3 * deadline, 1))
    found = Findings()
    try:
        scenario.prepare(seed)
        at = fault.begin(scenario)
        _watch(scenario, fault, row, at)
        _resume(scenario, fault, row, found)
        found.add(scenario.judge())
    except (GraphError, InstructionError) as error:
        row.got, row.sentence = row.got or "not tried", str(error).splitlines()[0]
        with contextlib.suppress(GraphError, InstructionError):
            fault.end(scenario)
    finally:
        scenario.take_away()
    row.stopped = not row.sentence
    if row.stopped:
        row.sentence = _summary(row)
    return row, found


def _watch(scenario: Scenario, fault: GraphFault, row: GraphRow, at: float) -> None:
    """Wait for the layer's reaction, and for the arm to rest."""
    recorder = scenario.recorder
    if fault.state not in ("HOLD", "ESTOP", "SLOW"):
        _watch_going_on(scenario, fault, row, at)
        return
    if fault.timeout is None:  # the layer itself is stopped and reacts once it continues
        fault.end(scenario)
    state = getattr(SafetyStatus, fault.state)
    longest = (fault.deadline or WINDOW) + PATIENCE
    scenario.observer.wait(lambda: recorder.first(at, state) is not None, longest)
    time.sleep(REST)
    said = recorder.first(at, state)
    if said is None:
        row.got = recorder.said[-1].reason if recorder.said else "nothing"
        row.sentence = f"never {fault.state}, but {row.got}"
        return
    row.got, row.reaction_ms = f"{fault.state}: {said.reason}", round(1e3 * (said.steady - at), 1)
    _measure(scenario, row, said, at)
    if fault.reasons and said.reason not in fault.reasons:
        row.sentence = f"{fault.state}, but because of {said.reason}"
    elif row.deadline_ms is not None and row.reaction_ms > row.deadline_ms:
        row.sentence = f"braked after {row.reaction_ms:.0f} ms, at most {row.deadline_ms:.0f} ms are right"
    elif fault.timeout is not None and not _rests(scenario, at):
        row.sentence = "the arm does not rest"


def _rests(scenario: Scenario, at: float) -> bool:
    """Return whether the commands rest; after a contact since `at` (s, steady clock) the arm backs off first.

    An arm that was given up gets no more commands: the last one comes to rest by itself.
    """
    recorder = scenario.recorder
    if any(one.steady >= at and one.reason == Reason.CONTACT.label for one in list(recorder.said)):
        scenario.observer.wait(lambda: recorder.speed() == 0.0, RETREAT)
    return recorder.speed() == 0.0 or scenario.observer.safety.state == SafetyStatus.DISARMED


def _watch_going_on(scenario: Scenario, fault: GraphFault, row: GraphRow, at: float) -> None:
    recorder, observer = scenario.recorder, scenario.observer
    if fault.rest_within is not None:
        resting = observer.wait(
            lambda: recorder.measured_at > at + 0.05 and recorder.measured_speed < AT_REST,
            fault.rest_within,
        )
        row.got, row.stop_ms = "the controller holds", round(1e3 * (time.monotonic() - at), 1)
        if not resting:
            row.sentence = f"the arm still moves after {fault.rest_within:.1f} s"
        return
    time.sleep(WINDOW)
    if fault.state == "RUN":
        observer.wait(lambda: observer.safety.state in MOVING, PATIENCE)
    status = observer.safety
    row.got = f"{status.state_name}: {status.reason}"
    if fault.state == "RUN" and status.state not in MOVING:
        row.sentence = f"it does not go on: {status.sentence}"


def _measure(scenario: Scenario, row: GraphRow, said: Said, at: float) -> None:
    """Find the first braking command in the recording, and compare the stop with the analytic one."""
    recorder = scenario.recorder
    first = recorder.index_of(said)
    if first < 0:
        return
    row.heard_ms = round(1e3 * (recorder.heard[first] - at), 1)
    period = scenario.period
    stop = compare_stop(recorder.commands(), first, scenario.contract.joints, period)
    if stop is not None:
        row.stop_ms, row.analytic_stop_ms = round(1e3 * stop.seconds, 1), round(1e3 * stop.analytic_seconds, 1)
        row.travel_rad, row.analytic_travel_rad = round(stop.travel, 5), round(stop.analytic_travel, 5)


def _resume(scenario: Scenario, fault: GraphFault, row: GraphRow, found: Findings) -> None:
    """Remove the fault, recover as documented, and wait until the policy is followed again.

    Rearming starts a new sequence of commands at the measured posture, so the commands before it are judged first.
    """
    began, observer = time.monotonic(), scenario.observer
    if fault.rearm:
        found.add(scenario.judge())
    if not (fault.state == "HOLD" and fault.timeout is None):
        fault.end(scenario)
    if fault.rearm:
        scenario.rearm()
    if go_on(scenario, found):
        row.resume_ms = round(1e3 * (time.monotonic() - began), 1)
    else:
        row.sentence = row.sentence or f"it did not go on: {observer.safety.sentence}"


def go_on(scenario: Scenario, found: Findings) -> bool:
    """Wait until the policy is followed again, and return whether it is.

    If the arm was given up because it is not where it was commanded, the recovery is to arm it again.
    """
    observer = scenario.observer
    observer.wait(lambda: observer.safety.state in (*MOVING, SafetyStatus.DISARMED), RESUME_LIMIT)
    if observer.safety.state == SafetyStatus.DISARMED:
        found.add(scenario.judge())
        scenario.rearm()
    return bool(observer.wait(lambda: observer.safety.state in MOVING, RESUME_LIMIT))


def _summary(row: GraphRow) -> str:
    parts = [] if row.reaction_ms is None else [f"braked after {row.reaction_ms:.0f} ms"]
    if row.stop_ms is not None:
        parts.append(f"at rest {row.stop_ms:.0f} ms later")
    if row.resume_ms is not None:
        parts.append(f"followed again after {1e-3 * row.resume_ms:.1f} s")
    return ", ".join(parts)
