"""The expert teaches well: it picks what it is asked for, and its labels decode to what it meant."""

from __future__ import annotations

import numpy as np

from vla_ros.actions.decoding import decode
from vla_ros.envs.collector import CollectionOptions
from vla_ros.envs.registry import make_collector
from vla_ros.envs.tabletop.expert import Situation, plan_command
from vla_ros.language.commands import Act, Command
from vla_ros.robot.contract import load_contract

UNDISTURBED = CollectionOptions(disturbance=0.0, switch=0.0)


def test_it_picks_the_named_object_in_every_scene() -> None:
    collector = make_collector("pick", load_contract("panda"), UNDISTURBED)
    episodes = [collector.collect(seed) for seed in range(12)]
    assert [e.success for e in episodes] == [True] * 12


def test_one_seed_gives_one_episode() -> None:
    contract = load_contract("panda")
    first = make_collector("pick", contract, CollectionOptions()).collect(3)
    again = make_collector("pick", contract, CollectionOptions()).collect(3)
    assert first.arrays.keys() == again.arrays.keys()
    for name, array in first.arrays.items():
        np.testing.assert_array_equal(array, again.arrays[name])


def test_the_labels_of_one_state_lead_to_different_objects() -> None:
    contract = load_contract("panda")
    episode = make_collector("pick", contract, UNDISTURBED).collect(1)
    ends = [
        decode(episode.arrays["actions"][0, k].astype(float), contract.action, _pose(episode, 0), 0.08).positions[-1]
        for k in range(3)
    ]
    for k, end in enumerate(ends):
        aside = [np.linalg.norm(end[:2] - episode.arrays["target"][0, j, :2]) for j in range(3)]
        assert np.argmin(aside) == k


def _pose(episode, row):  # type: ignore[no-untyped-def]
    from vla_ros.types import Pose

    return Pose(episode.arrays["position"][row], episode.arrays["quaternion"][row])


def test_the_rule_by_hand() -> None:
    """Over the object it goes down with an open gripper; at it, it closes; holding it, it goes up."""
    target = np.array([0.5, 0.0, 0.02])

    def first(tool: np.ndarray, opening: float, holds: bool = False) -> tuple[np.ndarray, float]:
        situation = Situation(Command(Act.PICK, ("red", "cube")), tool, opening, target, holds, False)
        way = plan_command(situation, 1, 0.1, 0.08, 0.2)
        assert way.openings is not None
        return way.positions[0] - tool, float(way.openings[0])

    step, opening = first(target + np.array([0.0, 0.0, 0.06]), 0.08)
    assert step[2] < -0.01 and abs(step[0]) < 1e-9 and opening == 0.08
    step, opening = first(target + np.array([0.0, 0.0, 0.002]), 0.08)
    assert opening == 0.0
    step, opening = first(target, 0.042, holds=True)
    assert step[2] > 0.01 and opening == 0.0
    step, opening = first(target + np.array([0.05, 0.0, 0.01]), 0.08)  # beside it and low: up, not through it
    assert step[2] > 0.01 and abs(step[0]) < 1e-9 and opening == 0.08
