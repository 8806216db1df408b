"""`vla-ros eval` refuses what it would not do: an option without effect would make its report say something else."""

from __future__ import annotations

import argparse

import pytest

from vla_ros.cli import eval as evaluation
from vla_ros.cli.main import main


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--resume", "--resume has no effect without --suite tabletop"),
        ("--resume --via ros", "--resume has no effect without --suite tabletop"),
        ("--suite tabletop --resume --via ros", "--resume has no effect with --via ros: leave out, or use --via core"),
        ("--suite tabletop --via gazebo", "--via core or --via ros, got --via gazebo"),
        ("--suite tabletop --task pick", "--task pick has no effect with --suite"),
        ("--via ros --exchange", "--exchange has no effect with --via ros"),
        ("--controllers gz", "--controllers has no effect with --via core"),
        ("--via gazebo --no-safety", "--no-safety has no effect with --via gazebo"),
        ("--via ros --no-safety --processes 2", "--no-safety, --processes have no effect with --via ros"),
        ("--episodes 0", "--episodes is 0, expected at least 1"),
        ("--processes 0", "--processes is 0, expected at least 1"),
    ],
)
def test_what_would_have_no_effect_is_wrong_usage(words, says, capsys, monkeypatch, tmp_path):
    for name in ("_tabletop", "_via_core", "_via_ros", "_via_gazebo"):
        monkeypatch.setattr(evaluation, name, never)
    assert main(["eval", *words.split(), "--out", str(tmp_path)]) == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    ["", "--task pick --exchange --no-safety --processes 2", "--suite tabletop --resume --exchange --no-safety",
     "--via ros", "--via gazebo --task pick", "--suite tabletop --via ros"],
)  # fmt: skip
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
