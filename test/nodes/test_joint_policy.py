"""A checkpoint of joint positions in the whole graph: its chunks are accepted, and the simulated arm goes there."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from sensor_msgs.msg import JointState

from vla_ros.bringup.runner import GraphRunner
from vla_ros.client.observer import Observer
from vla_ros.client.operator_client import Operator
from vla_ros.msg import ActionChunk, SafetyStatus
from vla_ros.policies.build import robot_for
from vla_ros.robot.contract import load_contract

READY, REACH = 120.0, 60.0  # s of wall time, on a machine that may be busy
INSTRUCTION = "pick up the red cube"
TARGET = np.radians([35.0, -23.0, 17.0, 86.0, 20.0])  # where the recorded episodes end, rad
NEAR = np.radians(8.0)


def wait_until(condition: Callable[[], bool], what: Callable[[], object], timeout: float) -> None:
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, what()
        time.sleep(0.02)


def test_graph_follows_a_checkpoint_of_joints(so101_policy: Path, tmp_path: Path) -> None:
    robot = robot_for(str(so101_policy), "so101", tmp_path / "robot")
    contract = load_contract(robot)
    count = contract.joints.count
    arguments = {"robot": robot, "policy": str(so101_policy), "seed": 3, "instruction": INSTRUCTION, "lockstep": True}
    with GraphRunner(arguments, folder=tmp_path / "graph") as runner:
        observer = Observer(runner.node)
        operator = Operator(runner.node, observer)
        joints: list[np.ndarray] = []
        chunks: list[ActionChunk] = []
        runner.node.create_subscription(
            JointState,
            contract.controllers.joint_states_topic,
            lambda message: joints.append(np.array(message.position[:count])),
            50,
        )
        runner.node.create_subscription(ActionChunk, "/vla/action_chunk", chunks.append, 10)
        operator.say(INSTRUCTION, READY)
        wait_until(lambda: bool(joints) and bool(chunks), lambda: observer.policy.sentence, READY)
        begin = np.abs(joints[-1] - TARGET)
        assert begin.max() > 3.0 * NEAR
        operator.arm(READY)
        refused = observer.safety.rejected_chunks
        wait_until(
            lambda: bool((np.abs(joints[-1] - TARGET) < NEAR).all()),
            lambda: (joints[-1], observer.safety.state_name, observer.safety.sentence),
            REACH,
        )
        assert observer.safety.state in (SafetyStatus.RUN, SafetyStatus.SLOW), observer.safety.sentence
        assert observer.safety.rejected_chunks == refused, observer.safety.sentence
        assert {(chunk.width, chunk.action_specification) for chunk in chunks} == {(6, contract.action.fingerprint)}
