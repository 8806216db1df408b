"""The suite visits every combination, and sums up what it says it does."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from vla_ros.envs.tabletop.perturbations import PERTURBATIONS
from vla_ros.envs.tabletop.scene import HELD_OUT_PAIRS
from vla_ros.evaluation.rollout import RolloutResult
from vla_ros.evaluation.statistics import wilson_interval
from vla_ros.evaluation.tabletop_plot import tabletop_plot
from vla_ros.evaluation.tabletop_suite import CONDITIONS, SPLITS, make_trials, summarize_tabletop
from vla_ros.evaluation.trials import Trial, TrialResult
from vla_ros.language.commands import understand
from vla_ros.language.phrasing import held_out_words
from vla_ros.language.tokenizer import split_words


def test_thirty_six_episodes_visit_each_combination_once() -> None:
    trials = make_trials(36, 0)
    assert Counter((t.task, t.split, t.perturbation) for t in trials) == {
        (task, *condition): 1 for task in ("pick", "place", "push", "stack") for condition in CONDITIONS
    }
    assert {p for _, p in CONDITIONS} == set(PERTURBATIONS) and {s for s, _ in CONDITIONS} == set(SPLITS)
    assert make_trials(36, 0) == trials and make_trials(36, 1) != trials
    assert make_trials(20, 0) == trials[:20]
    assert {t.task for t in trials[: len(CONDITIONS)]} == {"pick"}  # the conditions in turn, then the next task


def test_each_split_is_what_it_says() -> None:
    for trial in make_trials(360, 500):
        command = understand(trial.sentence)
        assert command.act.value == trial.task and trial.scene == trial.sentence
        assert (command.thing in HELD_OUT_PAIRS) == (trial.split == "unseen_pairs")
        unknown = set(split_words(trial.sentence)) & set(held_out_words())
        assert bool(unknown) == (trial.split == "paraphrases")


def _result(
    task: str, split: str, perturbation: str, success: bool, picked: str = "a", swapped: bool = False
) -> TrialResult:
    trial = Trial(0, task, split, perturbation, "", "", swapped)
    return TrialResult(trial, RolloutResult(0, "", "a", success, picked, 1, 2.0, ""))


def test_the_figures_by_hand(tmp_path: Path) -> None:
    results = [
        _result("pick", "seen", "none", True),
        _result("pick", "seen", "light", False, picked=""),
        _result("place", "unseen_pairs", "none", False, picked="b"),
        _result("place", "paraphrases", "none", True),
        _result("pick", "seen", "none", True, swapped=True),
        _result("pick", "seen", "none", False, picked="b", swapped=True),
    ]
    figures = summarize_tabletop(results)
    assert figures["episodes"] == 4 and figures["success_rate"] == 0.5
    assert figures["success_ci95"] == list(wilson_interval(2, 4))
    by = figures["by"]
    assert by["task"]["pick"]["success_rate"] == 1.0 and by["task"]["pick"]["episodes"] == 1  # the light is not counted
    assert by["task"]["place"] == {"episodes": 2, "success_rate": 0.5, "success_ci95": list(wilson_interval(1, 2))}
    assert {name: one["success_rate"] for name, one in by["split"].items()} == {
        "seen": 1.0,
        "unseen_pairs": 0.0,
        "paraphrases": 1.0,
    }
    assert {name: one["success_rate"] for name, one in by["perturbation"].items()} == {"none": 1.0, "light": 0.0}
    assert figures["exchange"]["success_rate"] == 0.5 and figures["obedience"]["success_rate"] == pytest.approx(3 / 5)
    tabletop_plot(figures, "by hand", tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 5000
