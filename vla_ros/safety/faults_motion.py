"""Faults of what is asked for (too far, too fast, too much), of the solver, and what the operator does about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from vla_ros.errors import KinematicsError
from vla_ros.robot.contract import RobotContract
from vla_ros.safety.faults import DISARMED, ESTOP, HOLD, RUN, SLOW, Fault, Trial
from vla_ros.safety.reasons import Reason
from vla_ros.safety.shadow import CHUNK_TICKS
from vla_ros.types import FloatArray

Play = Callable[[Trial], None]

MOVING = frozenset({RUN, SLOW})
TOO_FAST = frozenset({Reason.LINEAR_VELOCITY, Reason.WORKSPACE, Reason.JOINT_VELOCITY})
OUTSIDE = frozenset({Reason.WORKSPACE, Reason.OBSTACLE, Reason.SELF_COLLISION, Reason.JOINT_POSITION})
"""The most serious of what is in the way is named: on the way out of the box that may be the arm or the table."""


def table() -> tuple[Fault, ...]:
    """Return the faults of this module."""
    return (*_places(), *_demands(), *_grippers(), *_postures(), *_solvers(), *_operators())


def corrected(name: str, reasons: frozenset[Reason], play: Play, **more: object) -> Fault:
    """A demand that is carried out as far as it is safe: the arm goes on, within all limits."""
    return Fault(name, play, MOVING, reasons, **more)  # type: ignore[arg-type]


def _towards(offset: tuple[float, float, float], ticks: int = 60) -> Play:
    """Plans at a reachable speed to a place `offset` m from where the tool is."""

    def play(trial: Trial) -> None:
        shadow = trial.shadow
        goal = shadow.pose().position + np.asarray(offset)

        def rows(_: int) -> FloatArray:
            way = goal - shadow.pose().position
            step = way * min(1.0, 0.04 / max(float(np.linalg.norm(way)), 1e-9))
            count = np.arange(1, shadow.contract.action.horizon + 1)[:, None]
            short = np.linalg.norm(count * step, axis=1)[:, None] < np.linalg.norm(way)
            places: FloatArray = np.where(short, shadow.pose().position + count * step, goal)
            return places

        trial.follow(rows, ticks)

    return play


def _near_face(axis: int, upper: bool) -> Callable[[RobotContract], RobotContract]:
    """Move one face of the box to 5 cm before the tool at home, so that the way to it is short."""

    def adapt(contract: RobotContract) -> RobotContract:
        from vla_ros.robot.kinematics import Kinematics

        box, tool = contract.cartesian, Kinematics(contract).forward(contract.joints.home).position
        lower, higher = box.workspace_lower.copy(), box.workspace_upper.copy()
        if upper:
            higher[axis] = tool[axis] + (0.15 if axis == 1 else 0.05)
        else:
            lower[axis] = tool[axis] - 0.05
        return replace(contract, cartesian=replace(box, workspace_lower=lower, workspace_upper=higher))

    return adapt


def _wide(contract: RobotContract) -> RobotContract:
    """A box that forbids nothing: other checks have to."""
    everywhere = np.full(3, 3.0)
    cartesian = replace(contract.cartesian, workspace_lower=-everywhere, workspace_upper=everywhere)
    return replace(contract, cartesian=cartesian)


def _places() -> list[Fault]:
    outside = OUTSIDE
    ways = (
        ("in front of", 0, True, (0.5, 0.0, 0.0)), ("behind", 0, False, (-0.5, 0.0, 0.0)),
        ("left of", 1, True, (0.0, 0.6, 0.0)), ("right of", 1, False, (0.0, -0.6, 0.0)),
        ("above", 2, True, (0.0, 0.0, 0.5)), ("below", 2, False, (0.0, 0.0, -0.5)),
    )  # fmt: skip
    faces = [
        corrected(f"the target is {name} the workspace", outside, _towards(way, 60), adapt=_near_face(axis, upper))
        for name, axis, upper, way in ways
    ]
    below = frozenset({Reason.OBSTACLE, Reason.RESULT_INVALID})
    itself = frozenset({Reason.SELF_COLLISION, Reason.OBSTACLE, Reason.JOINT_POSITION, Reason.RESULT_INVALID})
    stretched = frozenset({Reason.SINGULARITY, Reason.JOINT_POSITION, Reason.RESULT_INVALID, Reason.OBSTACLE})
    return [
        *faces,
        corrected("the target is under the table", below, _towards((0.0, 0.0, -0.6), 130), adapt=_wide),
        corrected("the target is inside the arm", itself, _towards((-0.55, 0.0, -0.1), 150), adapt=_wide),
        corrected("the target is out of reach", stretched, _towards((0.9, 0.0, 0.3), 200), adapt=_wide),
        corrected("the arm is stretched, and comes back", stretched, _stretch_and_back, adapt=_wide),
    ]


def _stretch_and_back(trial: Trial) -> None:
    _towards((0.9, 0.0, 0.3), 180)(trial)
    far = float(trial.shadow.pose().position[0])
    _towards((-0.3, 0.0, 0.0), 80)(trial)
    back = far - float(trial.shadow.pose().position[0])
    trial.require(back > 0.05, f"the way out of the singularity is not open: {back:.3f} m in 0.8 s")


def _turn(trial: Trial) -> None:
    """Every row turned 1 rad further than the one before: 10 rad/s."""
    for _ in range(3):
        actions = trial.good()
        actions[:, 5] = np.minimum(np.arange(1, len(actions) + 1) * 1.0, 3.0)
        trial.send(actions)
        trial.tick(CHUNK_TICKS)


def _leap(metres: float) -> Play:
    """The whole way in the first row, there and back with every chunk."""

    def play(trial: Trial) -> None:
        centre = trial.shadow.pose().position
        trial.follow(lambda i: trial.shadow.place(centre + np.array([0.0, metres * (-1.0) ** i, 0.0])), 5 * CHUNK_TICKS)

    return play


def _chatter_of_rows(trial: Trial) -> None:
    """Every row on the other side."""
    centre, rows = trial.shadow.pose().position, trial.shadow.contract.action.horizon
    sides = np.outer((-1.0) ** np.arange(rows), [0.0, 0.15, 0.0])
    trial.follow(lambda _: centre + sides, 4 * CHUNK_TICKS)


def _chatter_of_chunks(trial: Trial) -> None:
    """A chunk every other tick, each with the opposite direction."""
    shadow = trial.shadow
    for i in range(40):
        if i % 2 == 0:
            trial.answer(shadow.ask(shadow.way((0.0, 0.05 * (-1.0) ** (i // 2), 0.0))))
        trial.tick()


def _noise(trial: Trial) -> None:
    """Rows without any sense, within what a chunk may hold."""
    rng = np.random.default_rng(7)
    for _ in range(6):
        trial.send(rng.uniform(-1.0, 1.0, trial.good().shape))
        trial.tick(CHUNK_TICKS)


def _corrections(trial: Trial) -> None:
    """Nothing of what is asked for can be done, again and again."""
    shadow = trial.shadow
    _break_solver(trial, lambda *_: np.full(shadow.contract.joints.count, np.nan))
    for i in range(shadow.parameters.motion.corrections_hold + 2):
        if i % CHUNK_TICKS == 0:
            trial.answer(shadow.stay())
        trial.tick()
        if trial.decisions[-1].state is HOLD:
            break


def _demands() -> list[Fault]:
    noise = TOO_FAST | OUTSIDE | {Reason.ANGULAR_VELOCITY, Reason.RESULT_INVALID}
    return [
        corrected("a leap of 0.3 m in one row", TOO_FAST, _leap(0.3)),
        corrected("a leap of 3 m in one row", TOO_FAST, _leap(3.0)),
        corrected("a turn of 10 rad/s", frozenset({Reason.ANGULAR_VELOCITY}), _turn),
        corrected("the direction changes with every row", TOO_FAST, _chatter_of_rows),
        corrected("the direction changes with every chunk", frozenset({Reason.OK}) | TOO_FAST, _chatter_of_chunks),
        corrected("noise in place of a plan", noise, _noise),
        Fault("corrections without end", _corrections, frozenset({HOLD}), frozenset({Reason.TOO_MANY_CORRECTIONS})),
    ]


def _openings(values: Callable[[int, int], FloatArray]) -> Play:
    def play(trial: Trial) -> None:
        shadow = trial.shadow
        rows = shadow.contract.action.horizon
        for i in range(8):
            trial.answer(shadow.ask(shadow.place(shadow.pose().position), values(i, rows)))
            trial.tick(CHUNK_TICKS)

    return play


def _chatter_of_gripper(trial: Trial) -> None:
    """Open and closed in turn, a row each: at most one reversal in each reversal time."""
    shadow = trial.shadow
    wide, first = shadow.contract.gripper.max_opening, len(shadow.openings)
    _openings(lambda _, rows: np.asarray(wide * (np.arange(rows) % 2), dtype=np.float64))(trial)
    steps = np.sign(np.diff(shadow.openings[first:]))
    turns = int((np.diff(steps[steps != 0]) != 0).sum())
    most = 8 * CHUNK_TICKS * shadow.period / shadow.parameters.gripper.reversal_time + 1
    trial.require(turns <= most, f"the gripper turned {turns} times, at most {most:.0f} are right")


def _grippers() -> list[Fault]:
    return [
        corrected("the gripper opens and closes with every row", frozenset({Reason.GRIPPER_CHATTER}),
                  _chatter_of_gripper),
        corrected("the gripper is asked for too wide an opening", frozenset({Reason.GRIPPER_RANGE}),
                  _openings(lambda _, rows: np.full(rows, 0.15))),
        corrected("the gripper is asked for a negative opening", frozenset({Reason.GRIPPER_RANGE}),
                  _openings(lambda _, rows: np.full(rows, -0.05))),
    ]  # fmt: skip


def _beyond(excess: float) -> Callable[[RobotContract], FloatArray]:
    """The fourth joint beyond its upper limit by `excess` rad, or one is before it."""

    def posture(contract: RobotContract) -> FloatArray:
        q = np.array(contract.joints.home)
        q[3] = contract.joints.upper[3] + excess
        return q

    return posture


def _way_back(trial: Trial) -> None:
    shadow = trial.shadow
    trial.answer(shadow.start())
    before = shadow.q[3] - shadow.contract.joints.upper[3]
    goal = shadow.pose().position + np.array([-0.25, 0.0, -0.1])
    trial.follow(lambda _: shadow.place(goal), 120)
    trial.answer(shadow.supervisor.reason.label)
    after = shadow.q[3] - shadow.contract.joints.upper[3]
    trial.require(after <= 0.0 < before, f"the joint did not come back: {before:.3f} rad outside, then {after:.3f}")


def _refused_arming(trial: Trial) -> None:
    shadow = trial.shadow
    shadow.wait(shadow.parameters.timing.resume_states + 1)
    trial.answer(shadow.supervisor.arm(shadow.now))
    trial.tick()


def _pushed(trial: Trial) -> None:
    trial.shadow.velocities = np.full_like(trial.shadow.q, 0.1)
    _refused_arming(trial)


def _postures() -> list[Fault]:
    disarmed = frozenset({DISARMED})
    return [
        Fault("a joint starts outside of its limits and comes back", _way_back, MOVING, frozenset(Reason),
              moving=False, posture=_beyond(0.04), adapt=_wide),
        Fault("a joint starts far outside of its limits", _refused_arming, disarmed,
              frozenset({Reason.OUTSIDE_LIMITS}), moving=False, posture=_beyond(0.2), adapt=_wide),
        Fault("the arm is pushed while it is armed", _pushed, disarmed, frozenset({Reason.MOVING}), moving=False),
    ]  # fmt: skip


def _break_solver(trial: Trial, program: Callable[..., FloatArray]) -> None:
    """Let the quadratic program of this shadow be another."""
    solver = trial.shadow.supervisor._motion._ik
    setattr(solver, "_program", program)  # noqa: B010 (one instance alone, for the time of one trial)


def _solver(program: Callable[..., FloatArray]) -> Play:
    def play(trial: Trial) -> None:
        _break_solver(trial, program)
        trial.shadow.ask(trial.shadow.way((0.0, 0.02, 0.0)))
        trial.tick()
        speed = np.abs(trial.shadow.velocities)
        trial.tick()
        trial.require(bool((np.abs(trial.shadow.velocities) <= speed + 1e-9).all()), "it does not brake at once")
        trial.tick(REST)
        trial.require(not trial.moves, "it does not come to rest without the solver")

    return play


REST = 40
"""Ticks in which the arm comes to rest."""


def _infeasible(*_: object) -> FloatArray:
    raise KinematicsError("the quadratic program ended with flag -1, expected 1")


def _crash(*_: object) -> FloatArray:
    raise ZeroDivisionError("something nobody thought of")


def _solvers() -> list[Fault]:
    any_state = frozenset({RUN, SLOW, HOLD})
    broken = frozenset({Reason.RESULT_INVALID, Reason.SOLVER})
    return [
        Fault("the solver finds no solution", _solver(_infeasible), any_state, frozenset({Reason.SOLVER})),
        Fault("the solver returns NaN", _solver(lambda *_: np.full(7, np.nan)), any_state, broken),
        Fault("the solver returns 1e300", _solver(lambda *_: np.full(7, 1e300)), any_state, broken),
        Fault("the solver raises", _solver(_crash), frozenset({HOLD}), frozenset({Reason.RESULT_INVALID})),
    ]


def _press(trial: Trial) -> None:
    trial.shadow.supervisor.press_estop(trial.shadow.now)
    trial.tick()


def _press_and_go_on(trial: Trial) -> None:
    """The policy goes on as if nothing had happened."""
    _press(trial)
    trial.follow(lambda _: trial.shadow.way((0.0, 0.02, 0.0)), REST)
    trial.require(not trial.moves, "chunks move the arm in an emergency stop")


def _release(trial: Trial) -> None:
    _press_and_go_on(trial)
    trial.shadow.supervisor.release_estop(trial.shadow.now)
    trial.follow(lambda _: trial.shadow.way((0.0, 0.02, 0.0)), 2 * CHUNK_TICKS)
    trial.require(not trial.moves, "releasing the button moves the arm")


def _reset_while_pressed(trial: Trial) -> None:
    _press(trial)
    trial.tick(REST)
    trial.answer(trial.shadow.supervisor.reset(trial.shadow.now))
    trial.tick()


def _arm_while_latched(trial: Trial) -> None:
    _release(trial)
    trial.answer(trial.shadow.supervisor.arm(trial.shadow.now))
    trial.tick()


def _reset_in_motion(trial: Trial) -> None:
    _press(trial)
    trial.shadow.supervisor.release_estop(trial.shadow.now)
    trial.answer(trial.shadow.supervisor.reset(trial.shadow.now))
    trial.tick()


def _reset(trial: Trial) -> None:
    _release(trial)
    trial.answer(trial.shadow.supervisor.reset(trial.shadow.now))
    trial.follow(lambda _: trial.shadow.way((0.0, 0.02, 0.0)), 2 * CHUNK_TICKS)


def _arm_again(trial: Trial) -> None:
    """Reset, arm, and only fresh chunks move it: the first step is at most one tick of motion."""
    _reset(trial)
    shadow, supervisor = trial.shadow, trial.shadow.supervisor
    trial.require(supervisor.arm(shadow.now) == "ok", "it cannot be armed again")
    trial.tick(5)
    trial.require(supervisor.state is HOLD and not trial.moves, "it moves before a chunk has come")
    trial.follow(lambda _: shadow.way((0.0, 0.02, 0.0)), 3 * CHUNK_TICKS)
    trial.require(trial.moves, "it does not move with fresh chunks")


def _disarm(trial: Trial) -> None:
    trial.shadow.supervisor.disarm(trial.shadow.now)
    trial.follow(lambda _: trial.shadow.way((0.0, 0.02, 0.0)), REST)


def _operators() -> list[Fault]:
    latched, pressed = frozenset({Reason.ESTOP_LATCHED}), frozenset({Reason.ESTOP_PRESSED})
    stop = frozenset({ESTOP})
    return [
        Fault("emergency stop in motion", _press, stop, pressed),
        Fault("chunks in an emergency stop", _press_and_go_on, stop, pressed),
        Fault("emergency stop released without a reset", _release, stop, latched),
        Fault("reset while the button is pressed", _reset_while_pressed, stop, pressed),
        Fault("arming in a latched emergency stop", _arm_while_latched, stop, latched),
        Fault("reset while the arm still moves", _reset_in_motion, stop, frozenset({Reason.MOVING})),
        Fault("chunks after the reset", _reset, frozenset({DISARMED}), frozenset({Reason.DISARMED})),
        Fault("reset, armed again, fresh chunks", _arm_again, frozenset({RUN}), frozenset({Reason.OK})),
        Fault("disarmed in motion", _disarm, frozenset({DISARMED}), frozenset({Reason.DISARMING})),
    ]
