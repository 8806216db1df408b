"""DAgger (Ross, Gordon and Bagnell 2011): the learner visits, the expert relabels, the data is aggregated.

Cloning learns in the states that the expert reaches; its own small errors lead to states it has never seen. DAgger lets
the learner drive, asks the expert what it would have done in each state that came about, and learns from all data so
far. In round i the expert drives a step with chance beta_i = decay ** i; what it says is recorded in every step,
whoever drives.
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
    """One visit: `number` from 1, `beta` the chance a step that the expert drives."""

    number: int
    beta: float


def schedule(rounds: int, decay: float) -> list[DaggerRound]:
    """Return the rounds after the first cloning, which is the round in which the expert always drives.

    Raises:
        VlaError: when there is no round, or the decay is no share.
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
    """Return the policy after all rounds.

    Args:
        demonstrations: The expert's own, learned from first.
        rounds: From `schedule`.
        learn: (all data so far, round) to a policy; round 0 is cloning.
        visit: (policy, round) to the states that it reaches with the expert's labels.
    """
    data = [demonstrations]
    policy = learn(data, 0)
    for one in rounds:
        data.append(visit(policy, one))
        policy = learn(data, one.number)
    return policy
