"""`vla-ros eval` refuses what it would not do: an option without effect would make its report say something else."""

from __future__ import annotations

import argparse
import json

import pytest

from vla_ros.cli.commands import eval as evaluation
from vla_ros.cli.main import main
from vla_ros.evaluation import suite
from vla_ros.evaluation.rollout import RolloutResult
from vla_ros.evaluation.trials import TrialResult


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--suite tabletop --via gazebo", "--via core or --via ros, got --via gazebo"),
        ("--suite tabletop --task pick", "--task pick has no effect with --suite"),
        ("--via ros --exchange", "--exchange has no effect with --via ros"),
        ("--controllers gz", "--controllers has no effect with --via core"),
        ("--via gazebo --no-safety", "--no-safety has no effect with --via gazebo"),
        ("--via ros --no-safety --processes 2", "--no-safety, --processes have no effect with --via ros"),
        ("--episodes 0", "--episodes: got '0', expected a whole number of at least 1"),
        ("--processes 0", "--processes: got '0', expected a whole number of at least 1"),
    ],
)
def test_what_would_have_no_effect_is_wrong_usage(words, says, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(evaluation, "_results", never)
    assert main(["eval", *words.split(), "--out", str(tmp_path)]) == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        "",
        "--resume",
        "--task pick --exchange --no-safety --processes 2",
        "--suite tabletop --resume --exchange",
        "--via ros",
        "--via gazebo --task pick",
        "--suite tabletop --via ros",
        "--via ros --resume",
        "--via gazebo --resume",
        "--suite tabletop --via ros --resume",
    ],
)
def test_what_has_an_effect_is_done(words):
    parser = argparse.ArgumentParser()
    evaluation.add_arguments(parser)
    assert evaluation._complaint(parser.parse_args(words.split())) == ""


def test_the_help_says_what_of_the_suite_is_played_through_the_graph():
    parser = argparse.ArgumentParser()
    evaluation.add_arguments(parser)
    assert "ros plays only the episodes without a perturbation" in " ".join(parser.format_help().split())


def never(*arguments):
    raise AssertionError("it was played all the same")


def played(cases):
    """Return a stand-in for the simulator that plays what is asked of it and writes down what that was."""

    def play(options, trials, processes):
        for trial in trials:
            if trial.seed in cases.get("broken", ()):
                raise KeyboardInterrupt
            cases.setdefault("seeds", []).append(trial.seed)
            result = RolloutResult(trial.seed, "pick up the red cube", "red cube", cases["success"], "", 3, 1.0, "")
            yield [TrialResult(trial, result)]

    return play


def test_an_evaluation_that_ran_is_done_whatever_came_of_it(monkeypatch, tmp_path):
    monkeypatch.setattr(suite, "play_suite", played({"success": False}))
    assert main(["eval", "--episodes", "2", "--out", str(tmp_path)]) == 0


def test_an_interrupted_evaluation_goes_on_where_it_stopped(monkeypatch, tmp_path, capsys):
    cases = {"success": True, "broken": {1002}}
    monkeypatch.setattr(suite, "play_suite", played(cases))
    words = ["eval", "--task", "pick", "--episodes", "4", "--seed", "1000", "--out", str(tmp_path)]
    assert main(words) == 1
    cases["broken"] = ()
    assert main([*words, "--resume", "--json"]) == 0
    assert cases["seeds"] == [1000, 1001, 1002, 1003]
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["episodes"] == 4
    assert main([*words, "--resume", "--no-safety"]) == 1
    assert "was written with" in capsys.readouterr().err
