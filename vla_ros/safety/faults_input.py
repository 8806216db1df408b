"""Faults of what comes in: chunks, instructions, joint states, clocks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from vla_ros.actions.specification import Rotation
from vla_ros.robot.contract import RobotContract
from vla_ros.safety.faults import DISARMED, HOLD, RUN, SLOW, Fault, Trial
from vla_ros.safety.reasons import Reason
from vla_ros.safety.shadow import CHUNK_TICKS
from vla_ros.types import FloatArray, Instruction, InstructionKind, Pose, SafetyState

HOUR = 3600.0
REACTION = 2
"""Ticks from the end of a time-out to the first braking command: 20 ms."""

Play = Callable[[Trial], None]


def table() -> tuple[Fault, ...]:
    """Return the faults of this module."""
    return (*_contents(), *_rotations(), *_times(), *_instructions(), *_policies(), *_states(), *_clocks())


def holds(name: str, reason: Reason, play: Play, **more: object) -> Fault:
    """A fault that the arm must stop for."""
    return Fault(name, play, frozenset({HOLD}), frozenset({reason}), **more)  # type: ignore[arg-type]


def passes(name: str, reason: Reason, play: Play, state: SafetyState = RUN, **more: object) -> Fault:
    """A fault that is only left out or corrected: the arm goes on."""
    return Fault(name, play, frozenset({state}), frozenset({reason}), **more)  # type: ignore[arg-type]


def _value(value: float, row: int = 3, column: int = 1) -> Play:
    """A chunk with one value in it; the answer has one tick."""

    def play(trial: Trial) -> None:
        actions = trial.good()
        actions[row, column] = value
        trial.send(actions)
        trial.tick()

    return play


def _rows(change: Callable[[FloatArray], object], **changes: object) -> Play:
    """A chunk with other rows; the answer has one tick."""

    def play(trial: Trial) -> None:
        trial.send(change(trial.good()), **changes)
        trial.tick()

    return play


def _denormal(trial: Trial) -> None:
    trial.send(np.full_like(trial.good(), 5e-324))
    trial.tick(3)


def _contents() -> list[Fault]:
    finite, shape, wide = Reason.CHUNK_NOT_FINITE, Reason.CHUNK_SHAPE, Reason.CHUNK_OUT_OF_RANGE
    return [
        holds("an action is NaN", finite, _value(np.nan)),
        holds("an action is Inf", finite, _value(np.inf)),
        holds("an action is -Inf", finite, _value(-np.inf)),
        holds("an action is 1e300", wide, _value(1e300)),
        holds("an action is 50 m", wide, _value(50.0)),
        holds("the last value of a chunk is NaN", finite, _value(np.nan, -1, -1)),
        holds("a gripper value is 1e300", wide, _value(1e300, 5, -1)),
        holds("a rotation is Inf", finite, _value(np.inf, 0, 4)),
        passes("all actions are denormal", Reason.OK, _denormal),
        holds("a chunk has a column too few", shape, _rows(lambda rows: rows[:, :-1])),
        holds("a chunk has a column too many", shape, _rows(lambda rows: np.hstack([rows, rows[:, :1]]))),
        holds("a chunk has no rows", shape, _rows(lambda rows: rows[:0])),
        holds("a chunk has a row too many", shape, _rows(lambda rows: np.vstack([rows, rows[:1]]))),
        holds("a chunk has no columns", shape, _rows(lambda rows: rows[:, :0])),
        holds("a chunk is ragged", shape, _rows(lambda rows: [*rows.tolist(), [0.0]])),
        holds("a chunk holds words", shape, _rows(lambda rows: rows.astype(str))),
        holds("a chunk is a vector", shape, _rows(np.ravel)),
        holds("another specification", Reason.CHUNK_SPECIFICATION, _rows(np.array, specification="0123456789abcdef")),
        holds("another period", Reason.CHUNK_PERIOD, _rows(np.array, period=0.5)),
        holds("the period is zero", Reason.CHUNK_PERIOD, _rows(np.array, period=0.0)),
        holds("the period is NaN", Reason.CHUNK_PERIOD, _rows(np.array, period=np.nan)),
        holds("the policy does not trust its plan", Reason.TRUST_LOW, _rows(np.array, trust=0.01)),
        holds("trust is NaN", finite, _rows(np.array, trust=np.nan)),
        passes("the policy trusts its plan little", Reason.TRUST_REDUCED, _rows(np.array, trust=0.1), SLOW),
    ]


def _with_quaternions(contract: RobotContract) -> RobotContract:
    return replace(contract, action=replace(contract.action, rotation=Rotation.QUATERNION))


def _quaternion(scale: float) -> Play:
    def play(trial: Trial) -> None:
        actions = trial.good()
        actions[2, trial.shadow.contract.action.rotation_columns] *= scale
        trial.send(actions)
        trial.tick()

    return play


def _start(position: float = 0.0, scale: float = 1.0) -> Play:
    """A chunk whose starting pose is off: not one that the arm can have had."""

    def play(trial: Trial) -> None:
        shadow = trial.shadow
        pose = shadow.pose()
        start = Pose(pose.position + position, pose.quaternion * scale)
        trial.answer(shadow.send(shadow.chunk(trial.good()), start))
        trial.tick()

    return play


def _rotations() -> list[Fault]:
    rotation, start = Reason.CHUNK_ROTATION, Reason.CHUNK_START
    return [
        holds("a quaternion is zero", rotation, _quaternion(0.0), adapt=_with_quaternions),
        holds("a quaternion is twice as long", rotation, _quaternion(2.0), adapt=_with_quaternions),
        holds("a quaternion is NaN", Reason.CHUNK_NOT_FINITE, _quaternion(np.nan), adapt=_with_quaternions),
        passes("a quaternion is unit within 0.0005", Reason.OK, _quaternion(1.0005), adapt=_with_quaternions),
        passes("the starting pose is NaN", start, _start(np.nan)),
        passes("the starting pose is 1e300 m away", start, _start(1e300)),
        passes("the starting quaternion is zero", start, _start(scale=0.0)),
        passes("the starting quaternion is not unit", start, _start(scale=1.1)),
    ]


def _stamp(seconds: float) -> Play:
    """A chunk whose observation lies `seconds` from now; it is left out."""

    def play(trial: Trial) -> None:
        trial.send(trial.good(), observation_stamp=trial.shadow.stamp + seconds)
        trial.tick()

    return play


def _duplicate(trial: Trial) -> None:
    shadow = trial.shadow
    chunk = shadow.chunk(trial.good())
    trial.require(shadow.send(chunk) == "ok", "a sound chunk was refused")
    trial.answer(shadow.send(chunk))
    trial.tick()


def _foreign(trial: Trial) -> None:
    """As long as another sends chunks, too, none is followed."""
    timing = trial.shadow.parameters.timing
    for i in range(round(timing.chunk_timeout / trial.shadow.period) + REACTION):
        if i % CHUNK_TICKS == 0:
            trial.answer(trial.shadow.supervisor.refuse_chunk(Reason.CHUNK_FOREIGN, trial.shadow.now))
        trial.tick()


def _times() -> list[Fault]:
    return [
        passes("the stamp is zero", Reason.CHUNK_STAMP_ZERO, _rows(np.array, observation_stamp=0.0)),
        passes("the stamp is NaN", Reason.CHUNK_STAMP_ZERO, _rows(np.array, observation_stamp=np.nan)),
        passes("the stamp is 0.2 s ahead", Reason.CHUNK_STAMP_FUTURE, _stamp(0.2)),
        passes("the stamp is an hour ahead", Reason.CHUNK_STAMP_FUTURE, _stamp(HOUR)),
        passes("the observation is 2 s old", Reason.CHUNK_TOO_OLD, _stamp(-2.0)),
        passes("chunks out of order", Reason.CHUNK_OUT_OF_ORDER, _stamp(-0.4)),
        passes("the same chunk twice", Reason.CHUNK_DUPLICATE, _duplicate),
        holds("another sender of chunks", Reason.CHUNK_FOREIGN, _foreign),
    ]


def _instruct(trial: Trial, text: str, kind: InstructionKind = InstructionKind.TASK) -> None:
    shadow = trial.shadow
    shadow.instruction += 1
    shadow.supervisor.receive_instruction(Instruction(text, shadow.instruction, kind, shadow.stamp), shadow.now)


def _stop(trial: Trial) -> None:
    _instruct(trial, "stop", InstructionKind.STOP)
    trial.tick()


def _after_stop(trial: Trial) -> None:
    """The policy goes on as if nobody had said stop."""
    _stop(trial)
    trial.follow(lambda _: trial.shadow.way((0.0, 0.02, 0.0)), 3 * CHUNK_TICKS)


def _new_task(trial: Trial) -> None:
    _instruct(trial, "pick up the red cube")
    trial.tick()


def _old_task(trial: Trial) -> None:
    """Chunks for the task before keep coming."""
    _new_task(trial)
    for _ in range(3):
        trial.send(trial.good(), instruction_sequence=0)
        trial.tick(CHUNK_TICKS)


def _unknown_task(trial: Trial) -> None:
    _instruct(trial, "pick up the red cube")
    for _ in range(3):
        trial.send(trial.good(), instruction_sequence=99)
        trial.tick(CHUNK_TICKS)


def _flood(trial: Trial) -> None:
    for i in range(200):
        _instruct(trial, f"pick up the cube {i}")
    trial.tick()


def _instructions() -> list[Fault]:
    return [
        holds("'stop' in motion", Reason.INSTRUCTION_STOP, _stop),
        holds("chunks after 'stop'", Reason.INSTRUCTION_STOP, _after_stop),
        holds("a new instruction in motion", Reason.INSTRUCTION_NEW, _new_task),
        holds("chunks for an old instruction", Reason.INSTRUCTION_OLD, _old_task),
        holds("chunks for an unknown instruction", Reason.INSTRUCTION_UNKNOWN, _unknown_task),
        holds("200 instructions at once", Reason.INSTRUCTION_NEW, _flood),
    ]


def _silence(trial: Trial) -> None:
    shadow = trial.shadow
    shadow.ask(shadow.way((0.0, 0.01, 0.0)))
    trial.tick(round(shadow.parameters.timing.chunk_timeout / shadow.period) + REACTION)


def _slow_policy(trial: Trial) -> None:
    """A chunk every one and a half times of its deadline: one is never enough to go on."""
    shadow = trial.shadow
    wait = round(1.5 * shadow.parameters.timing.chunk_timeout / shadow.period)
    for _ in range(2):
        trial.send(trial.good())
        trial.tick(wait)


def _exhausted(trial: Trial) -> None:
    """Three rows, then nothing: at most the grace of the chunk is carried on."""
    shadow, timing = trial.shadow, trial.shadow.parameters.timing
    shadow.ask(shadow.way((0.0, 0.01, 0.0))[:3])
    last = 3 * shadow.contract.action.period + timing.exhausted_grace
    trial.tick(round(last / shadow.period) + REACTION)


def _one_observation(trial: Trial) -> None:
    """New chunks, always from the same old observation: slower, then held."""
    shadow = trial.shadow
    first, pose = shadow.stamp, shadow.pose()
    for i in range(round(shadow.parameters.timing.observation_hold_age / shadow.period) + CHUNK_TICKS):
        if i % CHUNK_TICKS == 0:
            answer = shadow.send(shadow.chunk(trial.good(), observation_stamp=first), pose)
            trial.answer(answer)
        trial.tick()
    trial.require(
        any(decision.state is SLOW for decision in trial.decisions), "an ageing observation did not slow the arm"
    )


def _disarmed(trial: Trial) -> None:
    """Chunks without an armed robot lead to nothing."""
    shadow = trial.shadow
    shadow.wait(shadow.parameters.timing.resume_states + 1)
    trial.follow(lambda _: shadow.way((0.0, 0.02, 0.0)), 2 * CHUNK_TICKS)
    trial.require(all(d.joint_positions is None for d in trial.decisions), "something was commanded while disarmed")


def _policies() -> list[Fault]:
    return [
        holds("the policy falls silent", Reason.CHUNK_STALE, _silence),
        holds("the policy is slower than its deadline", Reason.CHUNK_STALE, _slow_policy),
        holds("the chunk runs out", Reason.CHUNK_EXHAUSTED, _exhausted),
        holds("the policy repeats an old observation", Reason.CHUNK_TOO_OLD, _one_observation),
        Fault("chunks while disarmed", _disarmed, frozenset({DISARMED}), frozenset({Reason.DISARMED}), moving=False),
    ]


def _measured(change: Callable[[Trial], dict[str, object]]) -> Play:
    """One joint state with other values, in place of a sound one."""

    def play(trial: Trial) -> None:
        trial.shadow.pass_time()
        trial.shadow.sense(trial.shadow.state(**change(trial)))  # type: ignore[arg-type]
        trial.tick(sense=False)

    return play


def _joint(value: float, joint: int = 4) -> Callable[[Trial], dict[str, object]]:
    def change(trial: Trial) -> dict[str, object]:
        positions = trial.shadow.q.copy()
        positions[joint] = value
        return {"positions": positions}

    return change


def _speed(value: float) -> Callable[[Trial], dict[str, object]]:
    return lambda trial: {"velocities": np.full_like(trial.shadow.q, value)}


def _unreadable(trial: Trial) -> None:
    """A message without some of the joints never becomes a state: the node says so."""
    trial.shadow.supervisor.refuse_state(trial.shadow.now)
    trial.tick(sense=False)


def _none(trial: Trial) -> None:
    trial.answer(trial.shadow.supervisor.arm(trial.shadow.now))
    trial.tick(sense=False)


def _stale(trial: Trial) -> None:
    trial.tick(round(trial.shadow.parameters.timing.state_timeout / trial.shadow.period) + REACTION, sense=False)


def _frozen(trial: Trial) -> None:
    """States keep coming, but they are the same measurement."""
    shadow = trial.shadow
    frozen = shadow.state()
    for _ in range(round(shadow.parameters.timing.state_timeout / shadow.period) + REACTION):
        shadow.sense(frozen)
        trial.tick(sense=False)


def _one_late(trial: Trial) -> None:
    shadow = trial.shadow
    shadow.sense(shadow.state(positions=shadow.q + 0.2, stamp=shadow.stamp - 0.03))
    trial.tick(5)
    trial.require(len(trial.shadow.commands) > 5, "nothing was commanded")


def _all_reordered(trial: Trial) -> None:
    """Every other state is an older one: none of those may count."""
    shadow = trial.shadow
    for _ in range(10):
        shadow.sense(shadow.state(positions=shadow.q + 0.2, stamp=shadow.stamp - 0.05))
        trial.tick()


def _far(trial: Trial) -> None:
    """The arm is somewhere else than commanded: it was pushed, or does not follow."""
    far = trial.shadow.parameters.motion.tracking_tolerance + 0.05
    _measured(lambda t: {"positions": t.shadow.q + far})(trial)


def _states() -> list[Fault]:
    finite, wide, width = Reason.STATE_NOT_FINITE, Reason.STATE_OUT_OF_RANGE, Reason.STATE_WIDTH
    return [
        Fault("no joint state has come", _none, frozenset({DISARMED}), frozenset({Reason.STATE_MISSING}), moving=False),
        holds("a measured joint is NaN", finite, _measured(_joint(np.nan))),
        holds("a measured joint is Inf", finite, _measured(_joint(-np.inf))),
        holds("a measured joint is 1e300", wide, _measured(_joint(1e300))),
        passes("a measured velocity is denormal", Reason.OK, _measured(_speed(5e-324))),
        holds("a measured velocity is NaN", finite, _measured(_speed(np.nan))),
        holds("a measured velocity is 1e300", wide, _measured(_speed(1e300))),
        holds("the measured gripper is NaN", finite, _measured(lambda _: {"opening": np.nan})),
        holds("the measured gripper is Inf", finite, _measured(lambda _: {"opening": np.inf})),
        holds("a state's stamp is NaN", finite, _measured(lambda _: {"stamp": np.nan})),
        holds("a state has too few joints", width, _measured(lambda t: {"positions": t.shadow.q[:-1]})),
        holds("a state has too many joints", width, _measured(lambda t: {"positions": np.append(t.shadow.q, 0.0)})),
        holds("a state lacks joints by name", width, _unreadable),
        holds("the joint states stop", Reason.STATE_STALE, _stale),
        holds("the driver repeats one state", Reason.STATE_STALE, _frozen),
        passes("one state comes late", Reason.OK, _one_late),
        passes("every other state is an old one", Reason.OK, _all_reordered),
        holds("the arm is far from its command", Reason.TRACKING, _far),
    ]


def _sensor_clock(seconds: float) -> Play:
    """The sensors' clock jumps; from then on everything carries its new time."""

    def play(trial: Trial) -> None:
        shadow = trial.shadow
        shadow.stamp += seconds
        trial.tick(6)  # an older stamp counts as a late message until some have come in order
        before = shadow.q.copy()
        trial.follow(lambda _: shadow.place(shadow.pose().position), 4 * CHUNK_TICKS)
        trial.require(shadow.supervisor.state is RUN, "it does not go on when the clock is sound again")
        trial.require(bool((np.abs(shadow.q - before) < 0.2).all()), "it jumped when it went on")

    return play


def _steady_clock(seconds: float) -> Play:
    """The clock of the process itself jumps between two ticks (a machine that slept)."""

    def play(trial: Trial) -> None:
        trial.shadow.now += seconds
        trial.tick(sense=False)

    return play


def _gap(ticks: int) -> Play:
    """The control thread does not run for so many ticks."""

    def play(trial: Trial) -> None:
        shadow = trial.shadow
        shadow.ask(shadow.way((0.0, 0.01, 0.0)))
        for _ in range(ticks):
            shadow.pass_time()
            shadow.sense()
        trial.tick()

    return play


def _clocks() -> list[Fault]:
    jump = Reason.CLOCK_JUMP
    return [
        passes("the sensors' clock jumps an hour ahead, and the arm goes on", jump, _sensor_clock(HOUR)),
        passes("the sensors' clock jumps an hour back, and the arm goes on", jump, _sensor_clock(-HOUR)),
        passes("the sensors' clock jumps 1.5 s ahead, and the arm goes on", jump, _sensor_clock(1.5)),
        holds("the machine sleeps for an hour", Reason.STATE_STALE, _steady_clock(HOUR)),
        holds("the steady clock runs back", Reason.STATE_STALE, _steady_clock(-HOUR)),
        passes("4 ticks are missed", Reason.TICKS_MISSED, _gap(4), SLOW),
        holds("12 ticks are missed", Reason.TICKS_MISSED, _gap(12)),
    ]
