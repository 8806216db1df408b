"""What the safety node answers when its control thread does not: never that all is well."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from std_srvs.srv import SetBool, Trigger

from vla_ros.nodes.safety.thread import ANSWER_TIMEOUT
from vla_ros.nodes.safety_node import SafetyNode
from vla_ros.safety.supervisor import Counters
from vla_ros.types import SafetyState


class Silent:
    """A control thread that answers nothing; `ended` as it is told."""

    def __init__(self, *ended: str) -> None:
        self.ended = ended
        self.running = not ended

    def ask(self, request, otherwise):
        return otherwise

    def disarm(self):
        return False


class Node:
    """The answers of the safety node, without a node."""

    _on_arm, _on_reset, _arm = SafetyNode._on_arm, SafetyNode._on_reset, SafetyNode._arm
    _complaint, health, _arm_by_itself = SafetyNode._complaint, SafetyNode.health, SafetyNode._arm_by_itself

    def __init__(self, ticker) -> None:
        self._ticker, self.active, self._auto_arm = ticker, True, True
        self._control = SimpleNamespace(
            state=SafetyState.RUN,
            counters=Counters(),
            durations=[1e-3],
            sentence="well",
            arm=lambda now: "",
            estop=SimpleNamespace(missing=lambda now: ""),
        )
        self._realtime = "none"
        self._selftest = SimpleNamespace(complaint=lambda: "", sentence=lambda: "passed")
        self._watch = SimpleNamespace(complaint=lambda: "", unheard=lambda: "")

    def get_name(self):
        return "safety_node"

    def _look_for_controllers(self):
        pass


def test_a_disarming_that_was_not_done_is_not_reported_as_done():
    answer = Node(Silent())._on_arm(SetBool.Request(data=False), SetBool.Response())
    assert not answer.success
    assert "not disarmed" in answer.message


def test_nothing_is_armed_or_reset_by_a_thread_that_does_not_answer():
    node = Node(Silent())
    for answer in (
        node._on_arm(SetBool.Request(data=True), SetBool.Response()),
        node._on_reset(Trigger.Request(), Trigger.Response()),
    ):
        assert not answer.success
        assert "does not answer" in answer.message


@pytest.mark.parametrize("ended", ["control thread", "watch"])
def test_a_thread_that_has_ended_is_an_error_and_forbids_to_arm(ended):
    node = Node(Silent(ended))
    (status,) = node.health()
    assert status.level == DiagnosticStatus.ERROR
    assert ended in status.message
    assert ended in node._on_arm(SetBool.Request(data=True), SetBool.Response()).message


def test_an_arming_that_waited_too_long_to_be_still_right_does_not_happen():
    node = Node(SimpleNamespace(now=time.monotonic, ended=()))
    node._arm_by_itself(time.monotonic() - 2.0 * ANSWER_TIMEOUT)
    assert node._auto_arm  # it is asked for again, once everything has been looked at again
    node._arm_by_itself(time.monotonic())
    assert not node._auto_arm
