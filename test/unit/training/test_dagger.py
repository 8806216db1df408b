"""DAgger does what cloning cannot: it learns what to do where its own mistakes lead."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from vla_ros.envs.collector import CollectionOptions
from vla_ros.envs.registry import make_collector
from vla_ros.errors import VlaError
from vla_ros.robot.contract import load_contract
from vla_ros.training.algorithms.dagger import DaggerRound, run_dagger, schedule

Rows = tuple[np.ndarray, np.ndarray]


class Corridor:
    """Keep a drifting cart near the middle. The expert's own rows show the middle alone, and aside the learner is lost.

    The state is the way from the middle. The learner is a table by rounded state, and does nothing where it has no row:
    there the drift carries it further out. The expert always comes back, by at most two a step.
    """

    drift, start = 0.35, 0.0

    def expert(self, place: float) -> float:
        return -float(np.clip(0.9 * place, -2.0, 2.0)) - self.drift

    def play(self, policy: dict[int, float] | None, beta: float, seed: int, steps: int = 40) -> tuple[Rows, float]:
        """Return (states, the expert's labels) and the mean distance from the middle."""
        rng = np.random.default_rng(seed)
        place, places, labels = self.start, [], []
        for _ in range(steps):
            places.append(place)
            labels.append(self.expert(place))
            expert_drives = policy is None or rng.random() < beta
            action = labels[-1] if expert_drives else policy.get(round(place), 0.0)
            place += self.drift + action + rng.normal(0.0, 0.05)
        return (np.array(places), np.array(labels)), float(np.mean(np.abs(places)))

    @staticmethod
    def learn(data: Sequence[Rows]) -> dict[int, float]:
        places, labels = (np.concatenate(parts) for parts in zip(*data, strict=True))
        cells = np.round(places).astype(int)
        return {int(cell): float(labels[cells == cell].mean()) for cell in np.unique(cells)}


@pytest.fixture
def corridor() -> Corridor:
    return Corridor()


def _final(corridor: Corridor, policy: dict[int, float]) -> float:
    """Return how far the learner strays when it begins a little aside, over twenty plays."""
    corridor.start = 2.4
    return float(np.mean([corridor.play(policy, 0.0, seed)[1] for seed in range(100, 120)]))


def _run(corridor: Corridor, relabel: bool = True) -> tuple[dict[int, float], list[float]]:
    betas: list[float] = []
    corridor.start = 0.0

    def visit(policy: dict[int, float], one: DaggerRound) -> Rows:
        betas.append(one.beta)
        corridor.start = 2.4
        (places, labels), _ = corridor.play(policy, one.beta, one.number)
        if not relabel:  # a wrong DAgger: the learner's own actions as labels
            labels = np.array([policy.get(round(place), 0.0) for place in places])
        return places, labels

    def learn(data: Sequence[Rows], number: int) -> dict[int, float]:
        return corridor.learn(data)

    demonstrations, _ = corridor.play(None, 1.0, 0)
    return run_dagger(demonstrations, schedule(4, 0.3), learn, visit), betas


def test_it_mends_what_cloning_cannot(corridor: Corridor) -> None:
    corridor.start = 0.0
    cloned = corridor.learn([corridor.play(None, 1.0, 0)[0]])
    policy, betas = _run(corridor)
    assert _final(corridor, policy) < 0.25 * _final(corridor, cloned)
    np.testing.assert_allclose(betas, [0.3, 0.09, 0.027, 0.0081])


def test_without_the_expert_s_labels_it_mends_nothing(corridor: Corridor) -> None:
    right, _ = _run(corridor)
    wrong, _ = _run(corridor, relabel=False)
    assert _final(corridor, wrong) > 2.0 * _final(corridor, right)


def test_data_is_aggregated_in_order() -> None:
    seen: list[list[str]] = []

    def learn(data: Sequence[str], number: int) -> str:
        seen.append(list(data))
        return f"policy {number}"

    def visit(policy: str, one: DaggerRound) -> str:
        return f"visits of {policy}"

    assert run_dagger("expert", schedule(2, 0.5), learn, visit) == "policy 2"
    assert seen == [
        ["expert"],
        ["expert", "visits of policy 0"],
        ["expert", "visits of policy 0", "visits of policy 1"],
    ]


@pytest.mark.parametrize(("rounds", "decay"), [(0, 0.5), (2, 1.5), (2, float("nan"))])
def test_senseless_schedules_are_refused(rounds: int, decay: float) -> None:
    with pytest.raises(VlaError, match="DAgger"):
        schedule(rounds, decay)


def test_the_learner_drives_and_the_expert_labels() -> None:
    """A learner that only rises: the arm rises, and every label is still what the expert would do from there."""
    contract = load_contract("panda")
    rise = np.zeros((contract.action.horizon, 7))
    rise[:, 2], rise[:, 6] = 0.02 * np.arange(1, contract.action.horizon + 1), 1.0
    options = CollectionOptions(max_steps=8, disturbance=0.0, switch=0.0, learner_fraction=1.0, record_learner=True)
    episode = make_collector("pick", contract, options, lambda observation: rise).collect(1)
    heights = episode.arrays["position"][:, 2]
    assert (np.diff(heights) > 0.005).all() and not episode.success
    asked = int(episode.arrays["asked"][0])
    first_rows = episode.arrays["actions"][:, asked, 0, :3]
    assert (first_rows[:, 2] < 0.0).all()  # the expert would go down, in every state
    np.testing.assert_allclose(
        episode.arrays["driven"], np.broadcast_to(rise, episode.arrays["driven"].shape), atol=1e-6
    )
    undriven = CollectionOptions(max_steps=8, disturbance=0.0, switch=0.0, learner_fraction=0.0)
    expert = make_collector("pick", contract, undriven, lambda observation: rise).collect(1)
    assert (np.diff(expert.arrays["position"][:, 2]) < 0.0).all()  # beta 1: the expert drives
