"""Two policies over the same scenes."""

from dataclasses import asdict

import pytest

from vla_ros.cli.main import main
from vla_ros.errors import VlaError
from vla_ros.evaluation.paired import compare, outcomes, sign_test
from vla_ros.evaluation.rollout import RolloutResult
from vla_ros.evaluation.tabletop_suite import make_trials
from vla_ros.evaluation.trials import TrialResult


@pytest.mark.parametrize(
    ("won", "lost", "p"),
    [(0, 0, 1.0), (1, 0, 1.0), (3, 3, 1.0), (6, 0, 0.03125), (0, 6, 0.03125), (8, 2, 0.109375), (9, 1, 0.021484375)],
)
def test_the_sign_test_counts_the_coins(won: int, lost: int, p: float) -> None:
    """By hand: both tails of so many tosses."""
    assert sign_test(won, lost) == pytest.approx(p)


def test_only_scenes_that_both_played_count() -> None:
    ours = {(1, "a"): True, (2, "a"): True, (3, "a"): False, (4, "a"): True, (5, "a"): True}
    theirs = {(1, "a"): False, (2, "a"): True, (3, "a"): True, (4, "b"): False, (5, "a"): False}
    assert compare(ours, theirs) == {"scenes": 4, "success_rate": 0.5, "won": 2, "lost": 1, "p": 1.0}
    with pytest.raises(VlaError, match="no scene in common"):
        compare(ours, {(9, "a"): True})


def test_both_kinds_of_report_are_read() -> None:
    result = RolloutResult(7, "pick up the red cube", "red_cube", True, "red_cube", 30, 4.0, "")
    trial = make_trials(1, 7)[0]
    assert outcomes([asdict(result)]) == {(7, "pick up the red cube"): True}
    assert outcomes([asdict(TrialResult(trial, result))]) == {(7, "pick up the red cube"): True}
    with pytest.raises(VlaError, match="not the rollouts"):
        outcomes([{"success": True}])


@pytest.mark.parametrize("text", ["", "[]", '{"success_rate": 1.0}', '{"rollouts": [{"seed": 1}]}', '{"rollouts": []}'])
def test_what_is_no_report_is_said_before_anything_is_played(tmp_path, capsys, text: str) -> None:
    report = tmp_path / "before.json"
    report.write_text(text)
    assert main(["eval", "--episodes", "1", "--against", str(report), "--out", str(tmp_path / "out")]) == 2
    assert str(report) in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_a_missing_report_is_named(tmp_path, capsys) -> None:
    assert main(["eval", "--against", str(tmp_path / "none.json"), "--out", str(tmp_path / "out")]) == 2
    assert "none.json" in capsys.readouterr().err
