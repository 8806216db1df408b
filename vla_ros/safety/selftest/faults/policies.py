"""Policy faults: crashed, silent, hanging, reporting a fault, too slow, or using an old observation."""

from __future__ import annotations

from math import ceil

from vla_ros.safety.reasons import Reason
from vla_ros.safety.selftest.shadow import CHUNK_TICKS
from vla_ros.safety.selftest.trial import DISARMED, HOLD, REACTION, RUN, SLOW, Fault, Play, Trial, holds, passes
from vla_ros.safety.watch.policy import Condition

ROUNDING = 1e-6
"""Tolerance of a number of ticks."""

SPENT = frozenset({Reason.CHUNK_STALE, Reason.CHUNK_EXHAUSTED, Reason.CHUNK_TOO_OLD})
"""Reasons of a hold when no chunk follows; each play requires the one whose deadline comes first."""


def _go_on(trial: Trial, ticks: int, *, progress: bool = True, every: int = 0) -> None:
    """Let valid chunks arrive, back and forth, so that no deadline of the plan expires, whatever its setting.

    Args:
        trial: The running trial.
        ticks: Number of ticks.
        progress: Whether the policy counts each chunk as a completed inference.
        every: Ticks between two chunks; 0 for the default.
    """
    shadow = trial.shadow
    every = every or shadow.chunk_ticks
    for i in range(ticks):
        if i % every == 0:
            side = -1.0 if i // every % 4 in (1, 2) else 1.0
            trial.answer(shadow.ask(shadow.way((0.0, 0.01 * side, 0.0))))
            shadow.inferences -= not progress
        trial.tick()


def _ticks(trial: Trial, seconds: float) -> int:
    """Return the ticks until a timeout of `seconds` has expired, including the layer's reaction."""
    return round(seconds / trial.shadow.period) + REACTION


def _require_first(trial: Trial, duration: float) -> None:
    """Require the reason of the first deadline when no chunk follows one of `duration` s.

    Deadlines within `REACTION` ticks of it are accepted, too.
    """
    timing = trial.shadow.parameters.timing
    deadlines = {
        Reason.CHUNK_STALE: timing.chunk_timeout,
        Reason.CHUNK_EXHAUSTED: duration + timing.exhausted_grace,
        Reason.CHUNK_TOO_OLD: timing.observation_hold_age,
    }
    first = min(deadlines.values()) + REACTION * trial.shadow.period
    fitting = [reason.label for reason, deadline in deadlines.items() if deadline <= first]
    trial.require(bool({*fitting} & trial.reasons), f"the reason is none of {', '.join(fitting)}")


def _silence(trial: Trial) -> None:
    shadow, action = trial.shadow, trial.shadow.contract.action
    shadow.ask(shadow.way((0.0, 0.01, 0.0)))
    trial.tick(_ticks(trial, shadow.parameters.timing.chunk_timeout))
    _require_first(trial, action.horizon * action.period)


def _slow_policy(trial: Trial) -> None:
    """Send a chunk every one and a half deadlines: a single one is never enough to continue."""
    shadow, action = trial.shadow, trial.shadow.contract.action
    wait = round(1.5 * shadow.parameters.timing.chunk_timeout / shadow.period)
    for _ in range(2):
        trial.send(trial.good())
        trial.tick(wait)
    _require_first(trial, action.horizon * action.period)


def _exhausted(trial: Trial) -> None:
    """Send three rows, then nothing: the motion continues for the chunk's grace period at most."""
    shadow, timing = trial.shadow, trial.shadow.parameters.timing
    shadow.ask(shadow.way((0.0, 0.01, 0.0))[:3])
    duration = 3 * shadow.contract.action.period
    trial.tick(_ticks(trial, duration + timing.exhausted_grace))
    _require_first(trial, duration)


def _one_observation(trial: Trial) -> None:
    """Send new chunks from the same old observation: the arm slows down, then holds."""
    shadow = trial.shadow
    first, start = shadow.stamp, shadow.arm_start()
    for i in range(round(shadow.parameters.timing.observation_hold_age / shadow.period) + shadow.chunk_ticks):
        if i % trial.shadow.chunk_ticks == 0:
            answer = shadow.send(shadow.chunk(trial.good(), observation_stamp=first), start)
            trial.answer(answer)
        trial.tick()
    trial.require(
        any(decision.state is SLOW for decision in trial.decisions), "an ageing observation did not slow the arm"
    )


def _disarmed(trial: Trial) -> None:
    """Chunks have no effect while the robot is disarmed."""
    shadow = trial.shadow
    shadow.wait(shadow.supervisor.settling_ticks)
    trial.follow(lambda _: shadow.way((0.0, 0.02, 0.0)), 2 * CHUNK_TICKS)
    trial.require(all(d.joint_positions is None for d in trial.decisions), "something was commanded while disarmed")


def _slowing_ticks(trial: Trial) -> range:
    """Return the ticks without a heartbeat after which the arm is slow but not held; may be empty."""
    timing, period = trial.shadow.parameters.timing, trial.shadow.period
    return range(int(timing.policy_slow / period + ROUNDING) + 1, ceil(timing.policy_timeout / period - ROUNDING))


def _dead(trial: Trial) -> None:
    """The policy is killed or disconnected: nothing arrives but chunks already under way."""
    trial.shadow.heart = None
    _go_on(trial, _ticks(trial, trial.shadow.parameters.timing.policy_timeout))
    slowed = any(one.state is SLOW for one in trial.decisions)
    trial.require(slowed or not _slowing_ticks(trial), "it did not slow down before it held")


def _dead_while_chunks_come(trial: Trial) -> None:
    """Chunks alone are no sign of life: they may have waited in a queue."""
    trial.shadow.heart = None
    least = _ticks(trial, trial.shadow.parameters.timing.policy_timeout)
    _go_on(trial, least + trial.shadow.chunk_ticks)


def _says(condition: Condition) -> Play:
    """The policy keeps reporting this condition."""

    def play(trial: Trial) -> None:
        trial.shadow.heart = condition
        _go_on(trial, _ticks(trial, trial.shadow.parameters.timing.policy_timeout))

    return play


def _hangs(trial: Trial) -> None:
    """Heartbeats continue, but the inference never finishes; chunks that still arrive were queued."""
    trial.tick()  # the policy has finished one inference
    trial.shadow.computing = True
    _go_on(trial, _ticks(trial, trial.shadow.parameters.timing.inference_timeout) + 1, progress=False)


def _works_hard(trial: Trial) -> None:
    """The policy is always computing, but makes progress within its deadline."""
    trial.shadow.computing = True
    most = int(0.8 * trial.shadow.parameters.timing.inference_timeout / trial.shadow.period)
    _go_on(trial, 6 * trial.shadow.chunk_ticks, every=max(1, min(trial.shadow.chunk_ticks, most)))


def _misses_beats(trial: Trial, times: int, ticks: int) -> None:
    """Heartbeats are repeatedly missing for `ticks`."""
    for _ in range(times):
        trial.shadow.heart = None
        _go_on(trial, ticks)
        trial.shadow.heart = Condition.RUNNING
        trial.tick()
    trial.shadow.heart = None
    _go_on(trial, ticks)


def _misses_some_beats(trial: Trial) -> None:
    """Gaps shorter than the time after which the arm slows down; at a low rate, less than one tick, so none."""
    period = trial.shadow.period
    trial.tick()
    _misses_beats(trial, 5, int(0.8 * trial.shadow.parameters.timing.policy_slow / period))


def _misses_many_beats(trial: Trial) -> None:
    """Gaps long enough to slow down, but not to hold; at a low rate, no tick may lie between the two."""
    trial.tick()
    slowing = _slowing_ticks(trial)
    if not slowing:
        return
    _misses_beats(trial, 3, slowing[len(slowing) // 2])
    trial.require(trial.decisions[-1].state is SLOW, f"the state is {trial.decisions[-1].state.name}, expected SLOW")
    trial.require(Reason.POLICY_SILENT.label in trial.reasons, "it did not say that the policy is silent")


def _one_bad_inference(trial: Trial) -> None:
    """One inference fails, the next one succeeds."""
    shadow = trial.shadow
    shadow.ask(shadow.way((0.0, 0.01, 0.0)))
    trial.tick()
    failing = min(3, int(shadow.parameters.timing.policy_timeout / shadow.period + ROUNDING) - 1)
    if failing > 0:
        shadow.heart = Condition.FAULT
        trial.tick(failing)
    shadow.heart = Condition.RUNNING
    trial.tick(5)
    trial.require(all(one.state is RUN for one in trial.decisions), "one bad inference stopped the arm")


def _never_spoke(trial: Trial) -> None:
    """Chunks from a policy without any heartbeat."""
    shadow = trial.shadow
    shadow.heart = None
    shadow.start()
    trial.follow(lambda _: shadow.way((0.0, 0.02, 0.0)), 2 * CHUNK_TICKS)


def _started_again(trial: Trial) -> None:
    """The policy crashes and restarts, counts from 1 again, and is followed again."""
    shadow = trial.shadow
    _dead(trial)
    trial.require(shadow.supervisor.state is HOLD, "it did not hold while the policy was away")
    trial.tick(50)
    shadow.heart, shadow.inferences, shadow.sequence = Condition.RUNNING, 0, 0
    trial.follow(lambda _: shadow.way((0.0, 0.01, 0.0)), 3 * CHUNK_TICKS)


def table() -> list[Fault]:
    """Return the faults of this module."""
    return [
        holds("the policy dies", Reason.POLICY_SILENT, _dead),
        holds("the policy dies, and chunks go on coming", Reason.POLICY_SILENT, _dead_while_chunks_come),
        holds("the policy hangs in one inference", Reason.POLICY_STUCK, _hangs),
        holds("the policy is at fault", Reason.POLICY_FAULT, _says(Condition.FAULT)),
        holds("the policy waits for an observation", Reason.POLICY_WAITING, _says(Condition.WAITING)),
        holds("the policy has no task any more", Reason.POLICY_WAITING, _says(Condition.IDLE)),
        holds("the policy was never heard of", Reason.WAITING, _never_spoke, moving=False),
        passes("the policy dies and is started again", Reason.OK, _started_again),
        passes("the policy computes without a pause", Reason.OK, _works_hard),
        passes("the policy misses some heartbeats", Reason.OK, _misses_some_beats),
        Fault(
            "the policy misses many heartbeats",
            _misses_many_beats,
            frozenset({RUN, SLOW}),
            frozenset({Reason.OK, Reason.POLICY_SILENT}),
        ),
        passes("one inference of the policy fails", Reason.OK, _one_bad_inference),
        Fault("the policy falls silent", _silence, frozenset({HOLD}), SPENT),
        Fault("the policy is slower than its deadline", _slow_policy, frozenset({HOLD}), SPENT),
        Fault("the chunk runs out", _exhausted, frozenset({HOLD}), SPENT),
        holds("the policy repeats an old observation", Reason.CHUNK_TOO_OLD, _one_observation),
        Fault("chunks while disarmed", _disarmed, frozenset({DISARMED}), frozenset({Reason.DISARMED}), moving=False),
    ]
