"""What an operator is told is what the nodes have answered."""

import pytest

from vla_ros.client.saying import Said

HELD = Said("id", True, True, 7, True, "HOLD", "instruction_stop", True, "")
TASK = Said("id", False, True, 7, None, "RUN", "ok", True, "")


def changed(said, **fields):
    return Said(**{**{name: getattr(said, name) for name in Said.__dataclass_fields__}, **fields})


def told(said):
    return "\n".join(said.sentences(10.0))


def test_a_stop_that_both_nodes_have_answered_is_done():
    assert HELD.done
    assert told(HELD).splitlines() == [
        "stopped: the safety layer has heard it; its state is HOLD (instruction_stop)",
        "accepted as instruction 7",
    ]


def test_a_stop_is_done_without_the_instruction_node():
    said = changed(HELD, accepted=False, instruction=None, delivered=False)
    assert said.done
    assert "the safety layer has heard it" in told(said)
    assert "the instruction node has not answered" in told(said)


@pytest.mark.parametrize("state", ["HOLD", "RUN", ""])
def test_a_stop_that_only_the_instruction_node_took_is_not_done(state):
    said = changed(HELD, acknowledged_by_safety_node=False, state=state)
    assert not said.done
    assert "NOT confirmed by the safety layer" in told(said)
    assert "press the emergency stop" in told(said)


def test_a_stop_while_the_arm_goes_on_is_not_done():
    said = changed(HELD, state="RUN", reason="ok")
    assert not said.done
    assert "its state is RUN (ok): press the emergency stop" in told(said)


def test_a_task_is_done_when_it_was_taken():
    assert TASK.done
    assert told(TASK) == "accepted as instruction 7"
    refused = changed(TASK, accepted=False, instruction=None, refusal="it is empty")
    assert not refused.done
    assert told(refused) == "refused: it is empty"


def test_a_task_without_an_answer_is_not_done():
    said = changed(TASK, accepted=False, instruction=None)
    assert not said.done
    assert "did not answer within 10.0 s" in told(said)
    assert "may still take the sentence" in told(said)


def test_json_holds_all_of_it():
    assert HELD.as_dict()["done"] is True
    assert HELD.as_dict()["acknowledged_by_safety_node"] is True
