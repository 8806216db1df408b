"""The tabletop suite: every task, unseen pairs and paraphrases, one perturbation at a time, and exchanged objects.

Three splits, each without a perturbation, and six perturbations of the first of them, make nine conditions. Episodes go
through the conditions in turn, and through the four tasks after each turn, so that 36 episodes visit everything once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from vla_ros.envs.processes import work_in_processes
from vla_ros.envs.registry import find_world
from vla_ros.envs.tabletop.commands import possible_commands
from vla_ros.envs.tabletop.env import TabletopEnv
from vla_ros.envs.tabletop.perturbations import PERTURBATIONS
from vla_ros.envs.tabletop.scene import sample_command
from vla_ros.evaluation.player import Player, SuiteOptions, make_player
from vla_ros.evaluation.rollout import POLICY_LATENCY, RolloutResult, rollout
from vla_ros.evaluation.statistics import wilson_interval
from vla_ros.language.commands import Act, Command
from vla_ros.language.phrasing import Wording, say

SPLITS = ("seen", "unseen_pairs", "paraphrases")

CONDITIONS = (*((split, "none") for split in SPLITS), *(("seen", name) for name in PERTURBATIONS if name != "none"))


@dataclass(frozen=True)
class Trial:
    """One episode of the suite.

    Attributes:
        seed: Of the scene.
        task: What kind of task.
        split: Which words and pairs.
        perturbation: What is changed.
        scene: The sentence that the scene is prepared for.
        sentence: What the policy is told; another one than `scene` when the object is exchanged.
        exchanged: Whether it is.
    """

    seed: int
    task: str
    split: str
    perturbation: str
    scene: str
    sentence: str
    exchanged: bool = False


@dataclass(frozen=True)
class TrialResult:
    """A trial and what happened."""

    trial: Trial
    result: RolloutResult

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrialResult:
        """Read what `dataclasses.asdict` wrote."""
        return cls(Trial(**values["trial"]), RolloutResult(**values["result"]))


def make_trials(episodes: int, seed: int) -> list[Trial]:
    """Return the trials of a suite; the same seed always gives the same.

    Args:
        episodes: How many.
        seed: Of the first scene; those after it follow.
    """
    acts, trials = list(Act), []
    for number in range(episodes):
        split, perturbation = CONDITIONS[number % len(CONDITIONS)]
        act = acts[(number // len(CONDITIONS)) % len(acts)]
        rng = np.random.default_rng([seed + number, 3])
        command = sample_command(rng, act, held_out=split == "unseen_pairs")
        wording = Wording.HELD_OUT if split == "paraphrases" else Wording.TAUGHT
        sentence = say(command, wording, rng)
        trials.append(Trial(seed + number, act.value, split, perturbation, sentence, sentence))
    return trials


def exchanged(trial: Trial, cell: TabletopEnv) -> Trial | None:
    """Return the same scene and the same task with another object named; None where there is no other."""
    rng = np.random.default_rng([trial.seed, 4])
    wanted = cell.command_wanted
    others = [
        command
        for command in possible_commands(cell.scene)
        if command.act is wanted.act and command.thing != wanted.thing and _alike(command, wanted)
    ]
    if not others:
        return None
    sentence = say(others[int(rng.integers(len(others)))], Wording.TAUGHT, rng)
    return replace(trial, sentence=sentence, exchanged=True)


def _alike(one: Command, other: Command) -> bool:
    """Say whether two commands differ in the thing alone."""
    return one.direction == other.direction and one.goal == other.goal


def _make_player(options: SuiteOptions) -> Player:
    return make_player(options, "tabletop")


def _play(player: Player, trial: Trial) -> list[TrialResult]:
    results = [_play_one(player, trial)]
    if player.options.exchange and trial.perturbation == "none":
        other = exchanged(trial, player.cell)
        if other is not None:
            results.append(_play_one(player, other))
    return results


def _play_one(player: Player, trial: Trial) -> TrialResult:
    cell = player.cell
    cell.perturbation = PERTURBATIONS[trial.perturbation]
    latency = POLICY_LATENCY + cell.perturbation.delay
    return TrialResult(
        trial,
        rollout(
            cell, player.policy, player.carrier, trial.seed, trial.sentence, scene=trial.scene, latency=latency,
            max_seconds=find_world("tabletop").max_seconds,
        ),
    )  # fmt: skip


def play_tabletop(
    options: SuiteOptions, trials: Sequence[Trial], processes: int
) -> Generator[list[TrialResult], None, None]:
    """Yield the results of each trial, and of its exchange, in order.

    Raises:
        CheckpointError: when the policy cannot be loaded.
        VlaError: when the robot is unknown, its cell cannot be built, or a process was killed.
    """
    yield from work_in_processes(_make_player, options, _play, trials, processes)


def summarise_tabletop(results: Sequence[TrialResult]) -> dict[str, Any]:
    """Return `success_rate` over all tasks and conditions, and `by` each task, split and perturbation.

    Tasks and splits are counted without perturbations, perturbations over the first split; "none" among them is that
    split itself. `exchange` says how often, with another object named in the same scene, the named one was handled.
    """
    asked = [one for one in results if not one.trial.exchanged]
    plain = [one for one in asked if one.trial.perturbation == "none"]
    seen = [one for one in asked if one.trial.split == "seen"]
    handled = [one for one in results if one.trial.perturbation == "none" and one.result.picked]
    swapped = [one for one in handled if one.trial.exchanged]
    return {
        "episodes": len(asked),
        **_rate([one.result.success for one in asked]),
        "by": {
            "task": _grouped(plain, lambda trial: trial.task),
            "split": _grouped(plain, lambda trial: trial.split),
            "perturbation": _grouped(seen, lambda trial: trial.perturbation),
            "task_and_split": _grouped(plain, lambda trial: f"{trial.task}/{trial.split}"),
        },
        "obedience": _rate([one.result.picked == one.result.target for one in handled]),
        "exchange": _rate([one.result.picked == one.result.target for one in swapped]),
        "seconds_to_success": float(np.mean([one.result.seconds for one in asked if one.result.success] or [0.0])),
    }


def _grouped(results: Sequence[TrialResult], name: Any) -> dict[str, Any]:  # noqa: ANN401 (a function of a trial)
    groups: dict[str, list[bool]] = defaultdict(list)
    for one in results:
        groups[name(one.trial)].append(one.result.success)
    return {group: {"episodes": len(won), **_rate(won)} for group, won in sorted(groups.items())}


def _rate(won: Sequence[bool]) -> dict[str, Any]:
    if not won:
        return {"success_rate": None, "success_ci95": None}
    return {"success_rate": sum(won) / len(won), "success_ci95": list(wilson_interval(sum(won), len(won)))}
