"""An evaluation through a graph that is interrupted: what was played is kept, and the graph is closed.

The graph and the player of scenes are stand-ins; what keeps the results is real.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vla_ros.cli.main import main
from vla_ros.client import evaluation, gazebo_evaluation
from vla_ros.evaluation.rollout import RolloutResult

SEEDS = [1000, 1001, 1002, 1003]


class Stage:
    """Plays what is asked of it, and writes down what that was and which graphs were begun and closed."""

    def __init__(self) -> None:
        self.seeds: list[int] = []
        self.told: list[str] = []
        self.log: list[str] = []
        self.breaks_at = 0
        self.failure = ""

    def play(self, seed: int, sentence: str = "") -> RolloutResult:
        if seed == self.breaks_at:
            raise KeyboardInterrupt
        self.seeds.append(seed)
        self.told.append(sentence)
        return RolloutResult(seed, "pick up the red cube", "red cube", True, "red cube", 3, 1.0, "")


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    stage = Stage()

    class Graph:
        node = None

        def __init__(self, *arguments: Any, **options: Any) -> None:
            stage.log.append("begun")

        @property
        def failure(self) -> str:
            return stage.failure

        def __enter__(self) -> Graph:
            return self

        def __exit__(self, *error: object) -> None:
            stage.log.append("closed")

        def close(self) -> None:
            stage.log.append("closed")

        def check(self) -> None:
            if stage.failure:
                raise evaluation.GraphError(stage.failure)

    class Link:
        node = None

        def __init__(self, *arguments: Any) -> None:
            pass

        def close(self) -> None:
            pass

    class Player:
        play = staticmethod(stage.play)

        def __init__(self, *arguments: Any) -> None:
            pass

        def wait_until_judged(self, timeout: float) -> bool:
            return True

    monkeypatch.setattr(evaluation, "GraphRunner", Graph)
    monkeypatch.setattr(gazebo_evaluation, "GazeboLaunch", Graph)
    monkeypatch.setattr(gazebo_evaluation, "RosLink", Link)
    for module in (evaluation, gazebo_evaluation):
        monkeypatch.setattr(module, "ScenePlayer", Player)
    return stage


@pytest.mark.parametrize("via", ["ros", "gazebo"])
def test_an_interrupted_evaluation_goes_on_where_it_stopped(
    stage: Stage, tmp_path: Path, capsys: pytest.CaptureFixture[str], via: str
) -> None:
    words = ["eval", "--via", via, "--episodes", "4", "--seed", "1000", "--out", str(tmp_path)]
    stage.breaks_at = 1002
    assert main(words) == 1
    assert stage.log == ["begun", "closed"]
    stage.breaks_at = 0
    assert main([*words, "--resume", "--json"]) == 0
    assert stage.seeds == SEEDS
    assert stage.log == ["begun", "closed"] * 2
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["episodes"] == 4
    assert main([*words, "--resume"]) == 0
    assert stage.log == ["begun", "closed"] * 2, "a graph was begun although nothing was missing"
    assert main([*words, "--resume", "--robot", "fr3"]) == 1
    assert "was written with" in capsys.readouterr().err


def test_scenes_in_gazebo_of_other_controllers_are_not_taken_up(
    stage: Stage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["eval", "--via", "gazebo", "--episodes", "1", "--seed", "1000", "--out", str(tmp_path)]
    assert main(words) == 0
    assert main([*words, "--resume", "--controllers", "gz"]) == 0
    assert main([*words, "--resume", "--controllers", "ros2_control"]) == 1
    assert "was written with" in capsys.readouterr().err


def test_an_interrupted_suite_through_the_graph_goes_on(stage: Stage, tmp_path: Path) -> None:
    words = ["eval", "--suite", "tabletop", "--via", "ros", "--episodes", "12", "--out", str(tmp_path)]
    assert main(words) == 0
    seeds, told = stage.seeds, stage.told
    assert len(seeds) > 2
    assert len(set(told)) > 1
    stage.seeds, stage.told, stage.breaks_at = [], [], seeds[-1]
    assert main(words) == 1
    stage.breaks_at = 0
    assert main([*words, "--resume"]) == 0
    assert (stage.seeds, stage.told) == (seeds, told)


@pytest.mark.parametrize("via", ["ros", "gazebo"])
def test_a_scene_in_which_the_graph_failed_is_played_again(stage: Stage, tmp_path: Path, via: str) -> None:
    words = ["eval", "--via", via, "--episodes", "1", "--seed", "1000", "--out", str(tmp_path)]
    stage.failure = "sim_node has ended"
    assert main(words) == 1
    stage.failure = ""
    assert main([*words, "--resume"]) == 0
    assert stage.seeds == [1000, 1000]
