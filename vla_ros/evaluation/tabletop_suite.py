"""Tabletop suite: all tasks, unseen pairs, paraphrases, single perturbations, and exchanged objects.

Three unperturbed splits and six perturbations of the first split make nine conditions. Episodes cycle through the
conditions, and through the four tasks after each cycle, so that 36 episodes cover everything once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from vla_ros.envs.tabletop.commands import possible_commands
from vla_ros.envs.tabletop.env import TabletopEnv
from vla_ros.envs.tabletop.perturbations import PERTURBATIONS
from vla_ros.envs.tabletop.scene import sample_command
from vla_ros.evaluation.statistics import wilson_interval
from vla_ros.evaluation.trials import Trial, TrialResult
from vla_ros.language.commands import Act, Command
from vla_ros.language.phrasing import Wording, say

SPLITS = ("seen", "unseen_pairs", "paraphrases")

CONDITIONS = (*((split, "none") for split in SPLITS), *(("seen", name) for name in PERTURBATIONS if name != "none"))


def make_trials(episodes: int, seed: int) -> list[Trial]:
    """Return the trials of a suite, deterministic for a seed.

    Args:
        episodes: Number of trials.
        seed: Seed of the first scene; later ones are consecutive.
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


def exchanged(trial: Trial, env: TabletopEnv) -> list[Trial]:
    """Return a trial of the same scene and task that names another object; [] if there is none, or if perturbed."""
    if trial.perturbation != "none":
        return []
    rng = np.random.default_rng([trial.seed, 4])
    wanted = env.command_wanted
    others = [
        command
        for command in possible_commands(env.scene)
        if command.act is wanted.act and command.thing != wanted.thing and _alike(command, wanted)
    ]
    if not others:
        return []
    sentence = say(others[int(rng.integers(len(others)))], Wording.TAUGHT, rng)
    return [replace(trial, sentence=sentence, exchanged=True)]


def _alike(one: Command, other: Command) -> bool:
    """Return whether two commands differ in the object only."""
    return one.direction == other.direction and one.goal == other.goal


def summarize_tabletop(results: Sequence[TrialResult]) -> dict[str, Any]:
    """Return `success_rate` over all tasks and conditions, and `by` task, split and perturbation.

    Tasks and splits are counted without perturbations; perturbations are counted on the first split, whose unperturbed
    trials are "none". `exchange` is the rate at which, with another object named in the same scene, that one was
    handled.
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


def describe_tabletop(figures: Mapping[str, Any]) -> list[str]:
    """Return the printed lines for the result of `summarize_tabletop`, one per group."""
    lines = []
    for group, table in figures["by"].items():
        for name, one in table.items():
            low, high = one["success_ci95"]
            lines.append(
                f"  {group:<14} {name:<24} {one['success_rate']:.3f} ({low:.3f} to {high:.3f}), n={one['episodes']}"
            )
    return lines
