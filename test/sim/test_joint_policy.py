"""A data set of an SO-101's motors, the policy that it trains, and that policy in the workcell, in lock step."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from vla_ros.cli.main import main
from vla_ros.envs.registry import make_env
from vla_ros.errors import CheckpointError
from vla_ros.evaluation.executors import DirectExecutor, SafetyExecutor
from vla_ros.evaluation.rollout import Player
from vla_ros.policies.build import commanded_by, load_policy, robot_for
from vla_ros.robot.contract import load_contract
from vla_ros.safety.parameters import load_parameters
from vla_ros.safety_bench.referee.referee import Referee

INSTRUCTION = "pick up the red cube"
TARGET = np.radians([35.0, -23.0, 17.0, 86.0, 20.0])  # where the recorded episodes end, rad
NEAR = np.radians(8.0)
SEED = 1005  # of a scene that suggests that instruction: the policy knows the words of its data alone


@pytest.mark.parametrize("kind", ["safe", "bare"])
def test_policy_of_joints_moves_the_arm_where_the_data_went(so101_policy: Path, kind: str) -> None:
    contract = commanded_by(str(so101_policy), load_contract("so101"))
    executor = SafetyExecutor(contract, load_parameters()) if kind == "safe" else DirectExecutor(contract)
    env = make_env("pick", contract)
    env.reset(50)
    begin = np.abs(env.state().joint_positions - TARGET)
    player = Player(env, load_policy(str(so101_policy), contract, "cpu"), executor)
    player.begin(INSTRUCTION)
    while env.time < 4.0:
        player.period()
    error = np.abs(env.state().joint_positions - TARGET)
    assert begin.max() > 3.0 * NEAR and (error < NEAR).all(), (begin, error)
    assert env.state().gripper_opening < 0.6 * contract.gripper.max_opening
    if isinstance(executor, SafetyExecutor):
        assert executor.refused == []
        commands = np.array([one.joint_positions for one in executor.decisions])
        assert Referee(contract, load_parameters().timing.period).judge(commands).total == 0
        # the regressed opening wavers at rest, and the gripper is not let follow that
        assert {one.reason for one in executor.decisions[50:]} <= {"ok", "gripper_chatter"}


def test_evaluation_takes_the_checkpoint_and_the_name_of_the_robot(so101_policy: Path, tmp_path: Path) -> None:
    words = ["--robot", "so101", "--policy", str(so101_policy), "--episodes", "1", "--seed", str(SEED)]
    assert main(["eval", *words, "--processes", "1", "--out", str(tmp_path)]) == 0
    (report,) = tmp_path.glob("*.json")
    (rollout,) = json.loads(report.read_text(encoding="utf-8"))["rollouts"]
    result = rollout["result"]
    assert result["instruction"] == INSTRUCTION and result["steps"] > 100


def test_policy_of_joints_leaves_another_robot_alone(so101_policy: Path, tmp_path: Path) -> None:
    panda = load_contract("panda")
    assert commanded_by(str(so101_policy), panda) is panda
    assert robot_for(str(so101_policy), "panda", tmp_path) == "panda" and not [*tmp_path.iterdir()]
    with pytest.raises(CheckpointError, match=r"joints\.names: trained with \['shoulder_pan'"):
        load_policy(str(so101_policy), panda, "cpu")
