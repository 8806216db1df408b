"""Repeated requests are known by their id, and what is remembered is bounded."""

import pytest

from vla_ros.errors import InstructionError
from vla_ros.language.request_log import MEMORY, RequestLog


@pytest.fixture
def log():
    return RequestLog()


def test_a_repetition_is_known_and_answered_as_before(log):
    assert log.begin("a", "pick up the cube")
    assert log.answer("a") is None
    log.settle("a", "pick up the cube", 7)
    assert not log.begin("a", "pick up the cube")
    answer = log.answer("a")
    assert (answer.request_id, answer.sequence, answer.sentence) == ("a", 7, "")


def test_the_same_sentence_under_another_id_is_another_request(log):
    assert log.begin("a", "pick up the cube")
    assert log.begin("b", "pick up the cube")


def test_an_id_that_belongs_to_another_sentence_is_refused(log):
    log.begin("a", "pick up the cube")
    log.settle("a", "pick up the cube", 7)
    with pytest.raises(InstructionError, match="belongs to another sentence"):
        log.begin("a", "push the cube")
    assert log.answer("a").sequence == 7


def test_a_request_without_an_id_is_refused(log):
    with pytest.raises(InstructionError, match="has no id, expected a unique one"):
        log.begin("", "pick up the cube")


def test_the_oldest_of_many_is_forgotten(log):
    for i in range(MEMORY + 1):
        assert log.begin(str(i), "pick up the cube")
        log.settle(str(i), "pick up the cube", i)
    assert log.answer("0") is None
    assert log.answer("1").sequence == 1
    assert not log.begin(str(MEMORY), "pick up the cube")
    assert log.begin("0", "pick up the cube")
    assert len(log._texts) == MEMORY
    assert len(log._answers) <= MEMORY
