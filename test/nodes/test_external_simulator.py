"""`simulation: external`: a program that the graph did not start stands in the place of the simulator."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from sensor_msgs.msg import JointState

from vla_ros.bringup import external_simulator
from vla_ros.bringup.runner import GraphRunner
from vla_ros.client.observer import Observer
from vla_ros.client.operator_client import Operator
from vla_ros.client.stage import Stage
from vla_ros.robot.contract import load_contract
from vla_ros.ros.dds.domains import claim_domain
from vla_ros.ros.qos import qos
from vla_ros.ros.transitions import GraphError

sys.path.insert(0, str(Path(__file__).parent))  # tests are imported by path, not from their folder
from running_script import RunningScript

FOREIGN = Path(__file__).parent / "foreign_simulator.py"
MOVED = 0.05  # rad
READY, EPISODE = 60.0, 60.0  # s of wall time, on a machine that may be busy


def unused_domain() -> int:
    domain, claim = claim_domain()
    claim.close()  # the graph claims it itself
    return domain


@pytest.mark.parametrize("lockstep", [False, True])
def test_a_foreign_simulator_closes_the_loop(tmp_path: Path, lockstep: bool) -> None:
    """In lock step, where the load of the machine has no part in it, up to the success of an episode."""
    domain = unused_domain()
    words = ["--ros-args", "-r", "__node:=somebody_s_physics", "-p", f"lockstep:={str(lockstep).lower()}"]
    with (
        RunningScript(FOREIGN, domain, READY, words=words, log=tmp_path / "foreign.log") as foreign,
        GraphRunner({"lockstep": lockstep}, simulation="external", domain=domain, folder=tmp_path / "runs") as graph,
    ):
        assert "sim_node" not in {node.name for node in graph.descriptions}
        contract = load_contract("panda")
        states: list[JointState] = []
        graph.node.create_subscription(
            JointState, contract.controllers.joint_states_topic, states.append, qos("joint_states")
        )
        observer = Observer(graph.node, contract.camera("front").topic)
        operator = Operator(graph.node, observer)
        instruction = Stage(graph.node, observer, operator).set_up(7, "", READY)
        observer.begin()
        number = operator.say(instruction, READY)
        assert observer.wait(lambda: observer.policy.instruction_sequence == number, READY)
        assert observer.wait(lambda: observer.episode.chunks > 0, READY)
        before = np.array(states[-1].position)
        operator.arm(READY)

        def driven() -> bool:
            travel = float(np.abs(np.array(states[-1].position) - before).max())
            return observer.episode.success if lockstep else travel > MOVED

        assert observer.wait(driven, EPISODE), (observer.task.detail, observer.episode.states[:20])
        graph.close()
        assert foreign.process.poll() is None, foreign.said()  # it is not this graph's to end


def test_a_simulator_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(external_simulator, "PATIENCE", 0.5)
    missing = "/clock, /joint_states, .*front.*, /arm_controller/joint_trajectory .a subscription."
    with (
        pytest.raises(GraphError, match=f"simulation: external, but in domain .* nobody offers {missing}"),
        GraphRunner(simulation="external", domain=unused_domain(), folder=tmp_path),
    ):
        pass
