"""Faults of the policy itself: dead, silent, hanging, at fault, too slow, or working on what is long past."""

from __future__ import annotations

from vla_ros.safety.faults.trial import DISARMED, HOLD, REACTION, RUN, SLOW, Fault, Play, Trial, holds, passes
from vla_ros.safety.policy_watch import Condition
from vla_ros.safety.reasons import Reason
from vla_ros.safety.shadow import CHUNK_TICKS


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
    shadow.wait(shadow.supervisor.settling_ticks)
    trial.follow(lambda _: shadow.way((0.0, 0.02, 0.0)), 2 * CHUNK_TICKS)
    trial.require(all(d.joint_positions is None for d in trial.decisions), "something was commanded while disarmed")


def _dead(trial: Trial) -> None:
    """Killed, stopped, cut off: nothing comes any more."""
    trial.shadow.heart = None
    trial.tick(round(trial.shadow.parameters.timing.policy_timeout / trial.shadow.period) + REACTION)
    trial.require(any(one.state is SLOW for one in trial.decisions), "it did not slow down before it held")


def _dead_while_chunks_come(trial: Trial) -> None:
    """Chunks alone are no sign of life: they may have waited somewhere."""
    trial.shadow.heart = None
    trial.follow(lambda _: trial.shadow.way((0.0, 0.02, 0.0)), 2 * CHUNK_TICKS)


def _says(condition: Condition) -> Play:
    """The policy says so, and goes on saying it."""

    def play(trial: Trial) -> None:
        trial.shadow.heart = condition
        trial.tick(round(trial.shadow.parameters.timing.policy_timeout / trial.shadow.period) + REACTION)

    return play


def _hangs(trial: Trial) -> None:
    """The heart beats, the inference does not come to its end."""
    shadow = trial.shadow
    shadow.ask(shadow.way((0.0, 0.01, 0.0)))
    shadow.computing = True
    trial.tick(round(shadow.parameters.timing.inference_timeout / shadow.period) + REACTION)


def _works_hard(trial: Trial) -> None:
    """It is computing whenever it is asked, and gets on."""
    trial.shadow.computing = True
    trial.follow(lambda _: trial.shadow.way((0.0, 0.01, 0.0)), 6 * CHUNK_TICKS)


def _misses_beats(times: int, share: float) -> Play:
    """The heart misses beats for `share` of the time after which the arm slows down, again and again."""

    def play(trial: Trial) -> None:
        shadow = trial.shadow
        ticks = int(share * shadow.parameters.timing.policy_slow / shadow.period)
        shadow.ask(shadow.way((0.0, 0.01, 0.0)))
        for _ in range(times):
            shadow.heart = None
            trial.tick(ticks)
            shadow.heart = Condition.RUNNING
            trial.tick()
        shadow.heart = None
        trial.tick(ticks)

    return play


def _one_bad_inference(trial: Trial) -> None:
    """One inference fails, the next one does not."""
    shadow = trial.shadow
    shadow.ask(shadow.way((0.0, 0.01, 0.0)))
    shadow.heart = Condition.FAULT
    trial.tick(3)
    shadow.heart = Condition.RUNNING
    trial.tick(5)
    trial.require(all(one.state is RUN for one in trial.decisions), "one bad inference stopped the arm")


def _never_spoke(trial: Trial) -> None:
    """Chunks of somebody whose heart was never heard."""
    shadow = trial.shadow
    shadow.heart = None
    shadow.start()
    trial.follow(lambda _: shadow.way((0.0, 0.02, 0.0)), 2 * CHUNK_TICKS)


def _started_again(trial: Trial) -> None:
    """It dies, comes back, counts from 1 again, and is followed again."""
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
        passes("the policy misses some heartbeats", Reason.OK, _misses_beats(5, 0.8)),
        passes("the policy misses many heartbeats", Reason.POLICY_SILENT, _misses_beats(3, 1.4), SLOW),
        passes("one inference of the policy fails", Reason.OK, _one_bad_inference),
        holds("the policy falls silent", Reason.CHUNK_STALE, _silence),
        holds("the policy is slower than its deadline", Reason.CHUNK_STALE, _slow_policy),
        holds("the chunk runs out", Reason.CHUNK_EXHAUSTED, _exhausted),
        holds("the policy repeats an old observation", Reason.CHUNK_TOO_OLD, _one_observation),
        Fault("chunks while disarmed", _disarmed, frozenset({DISARMED}), frozenset({Reason.DISARMED}), moving=False),
    ]
