"""The policy in the repository, behind the safety layer, in physics: it does what it is told, and only that."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from vla_ros.envs.registry import make_env
from vla_ros.envs.tabletop.env import TabletopEnv
from vla_ros.envs.tabletop.objects import COLOURS, SHAPES
from vla_ros.envs.tabletop.tasks import pick_instruction
from vla_ros.errors import CheckpointError
from vla_ros.evaluation.executors import DirectExecutor, SafetyExecutor
from vla_ros.evaluation.pick_suite import pick_trials, summarise_pick
from vla_ros.evaluation.rollout import Player, RolloutResult
from vla_ros.evaluation.suite import SuiteOptions, play_suite
from vla_ros.paths import share_file
from vla_ros.policies.build import DEFAULT_CHECKPOINT, load_policy
from vla_ros.policies.local import LocalPolicy
from vla_ros.robot.contract import load_contract
from vla_ros.safety.parameters import load_parameters
from vla_ros.types import SafetyState

CONTRACT = load_contract("panda")
SCENES = range(1200, 1206)


@pytest.fixture(scope="module")
def cell() -> TabletopEnv:
    return make_env("pick", CONTRACT)


@pytest.fixture(scope="module")
def policy() -> LocalPolicy:
    torch.set_num_threads(1)
    loaded = load_policy(DEFAULT_CHECKPOINT, CONTRACT, "cpu")
    assert isinstance(loaded, LocalPolicy)
    return loaded


@pytest.fixture(scope="module")
def executor() -> SafetyExecutor:
    return SafetyExecutor(CONTRACT, load_parameters())


def test_it_picks_up_what_is_named(cell: TabletopEnv, policy: LocalPolicy, executor: SafetyExecutor) -> None:
    results = [Player(cell, policy, executor).play(seed) for seed in SCENES]
    assert sum(r.success for r in results) >= len(results) - 1, [r for r in results if not r.success]


def test_other_words_in_the_same_scene_move_it_elsewhere(
    cell: TabletopEnv, policy: LocalPolicy, executor: SafetyExecutor
) -> None:
    cell.reset(SCENES[0])
    names = [item.name for item in cell.objects]
    results = [Player(cell, policy, executor).play(SCENES[0], pick_instruction(name)) for name in names]
    assert [r.picked for r in results] == names


def test_what_is_not_there_is_not_fetched(cell: TabletopEnv, policy: LocalPolicy, executor: SafetyExecutor) -> None:
    """The words are known, the thing is absent: the policy does not trust itself, and the arm stays where it is."""
    cell.reset(SCENES[1])
    here = {item.name for item in cell.objects}
    absent = [f"{c} {s}" for c in COLOURS for s in SHAPES if f"{c} {s}" not in here]
    colours, shapes = {n.split()[0] for n in here}, {n.split()[1] for n in here}
    clearly = next(n for n in absent if n.split()[0] not in colours or n.split()[1] not in shapes)
    start = cell.state().end_effector.position
    _ask(cell, policy, executor, clearly)
    assert abs(cell.state().end_effector.position - start).max() < 0.01
    assert {decision.state for decision in executor.decisions} == {SafetyState.HOLD}
    assert set(executor.refused) == {"trust_low"}


def _ask(cell: TabletopEnv, policy: LocalPolicy, executor: SafetyExecutor, name: str) -> None:
    """Ask for an object that the judge of the cell would refuse, for two seconds of simulation."""
    player = Player(cell, policy, executor)
    player.begin(pick_instruction(name))
    while cell.time < 2.0:
        player.period()


def test_lock_step_repeats_exactly(cell: TabletopEnv, policy: LocalPolicy, executor: SafetyExecutor) -> None:
    def play() -> tuple[RolloutResult, list[float]]:
        result = Player(cell, policy, executor).play(SCENES[2])
        commands = [d.joint_positions.tolist() for d in executor.decisions if d.joint_positions is not None]
        return result, [value for row in commands for value in row]

    assert play() == play()


def test_the_bare_follower_picks_too(cell: TabletopEnv, policy: LocalPolicy) -> None:
    """The comparison without the safety layer is a fair one."""
    assert Player(cell, policy, DirectExecutor(CONTRACT)).play(SCENES[3]).success


def test_figures_of_a_suite_add_up() -> None:
    results = list(
        play_suite(SuiteOptions("panda", DEFAULT_CHECKPOINT, exchange=True), pick_trials(1, SCENES[4]), processes=1)
    )
    assert len(results) == 1 and len(results[0]) == 3
    figures = summarise_pick(results[0])
    assert figures["episodes"] == 3 and figures["success_ci95"][0] <= figures["success_rate"] <= 1.0
    assert figures["success_rate"] == sum(one.result.success for one in results[0]) / 3


def test_a_suite_with_a_missing_checkpoint_ends_at_once() -> None:
    with pytest.raises(CheckpointError, match="no checkpoint"):
        next(play_suite(SuiteOptions("panda", "no/such/checkpoint"), pick_trials(1, 0), processes=1))


def test_the_checkpoint_is_small_has_a_card_and_names_no_place_of_its_making() -> None:
    folder = share_file(DEFAULT_CHECKPOINT)
    assert sum(file.stat().st_size for file in folder.iterdir()) < 20e6
    card = (folder / "README.md").read_text(encoding="utf-8")
    for line in ("vla-ros collect", "vla-ros train", "vla-ros eval", "95 %"):
        assert line in card
    training = json.loads((folder / "policy.json").read_text(encoding="utf-8"))["training"]
    assert not Path(training["command"].split("--data ")[1].split()[0]).is_absolute()
