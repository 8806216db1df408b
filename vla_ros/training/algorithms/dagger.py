"""DAgger (Ross, Gordon and Bagnell 2011): the learner visits states, the expert relabels them, the data is aggregated.

Behavior cloning (BC) learns from states that the expert reaches; the learner's small errors lead to states never seen.
DAgger lets the learner drive, labels each visited state with the expert's action, and trains on all data so far. In
round i the expert drives a step with probability beta_i = decay ** i; its action is recorded in every step, also when
the learner drives.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from vla_ros.errors import VlaError

Data = TypeVar("Data")
Policy = TypeVar("Policy")


@dataclass(frozen=True)
class DaggerRound:
    """One DAgger round: `number` from 1, `beta` the probability per step that the expert drives."""

    number: int
    beta: float


def schedule(rounds: int, decay: float) -> list[DaggerRound]:
    """Return the rounds after round 0, behavior cloning, in which the expert always drives.

    Raises:
        VlaError: when there are no rounds, or the decay is not from 0 to 1.
    """
    if rounds < 1 or not 0.0 <= decay <= 1.0:
        raise VlaError(f"DAgger: {rounds} rounds, decay {decay}; expected at least one round and a decay from 0 to 1")
    return [DaggerRound(number, decay**number) for number in range(1, rounds + 1)]


def run_dagger(
    demonstrations: Data,
    rounds: Sequence[DaggerRound],
    learn: Callable[[Sequence[Data], int], Policy],
    visit: Callable[[Policy, DaggerRound], Data],
) -> Policy:
    """Run all rounds and return the final policy.

    Args:
        demonstrations: Demonstrations of the expert, used from round 0.
        rounds: From `schedule`.
        learn: (all data so far, round) to a policy; round 0 is behavior cloning.
        visit: (policy, round) to the visited states with the expert's labels.
    """
    data = [demonstrations]
    policy = learn(data, 0)
    for one in rounds:
        data.append(visit(policy, one))
        policy = learn(data, one.number)
    return policy
