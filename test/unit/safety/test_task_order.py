"""Which tasks are newer than a stop that was heard directly."""

from __future__ import annotations

import pytest

from vla_ros.safety.watch.task_order import MEMORY, TaskOrder


@pytest.fixture
def order():
    return TaskOrder()


def heard(order, *keys):
    for key in keys:
        order.hear(lambda key=key: key)


def test_every_task_counts_before_a_stop(order):
    assert order.admit([("red", 1), ("blue", 2)]) == [1, 2]


def test_a_task_from_before_the_stop_is_held_back(order):
    heard(order, "red")
    order.stop()
    assert order.admit([("red", 1)]) == []
    assert order.admit([]) == []


def test_a_task_whose_sentence_came_after_the_stop_counts_once(order):
    order.stop()
    heard(order, "red")
    assert order.admit([("red", 1)]) == [1]
    assert order.admit([]) == []


def test_a_task_waits_for_its_sentence(order):
    order.stop()
    assert order.admit([("red", 1)]) == []
    heard(order, "red")
    assert order.admit([]) == [1]


def test_an_old_task_behind_a_new_one_is_held_back(order):
    """The instruction node has two queues: what was said first may come out last."""
    heard(order, "red")
    order.stop()
    heard(order, "blue")
    assert order.admit([("blue", 1), ("red", 2)]) == [1]
    assert order.admit([]) == []


def test_a_second_stop_forgets_what_was_heard_since_the_first(order):
    order.stop()
    heard(order, "red")
    assert order.admit([("green", 1)]) == []
    order.stop()
    heard(order, "green?")
    assert order.admit([("red", 2)]) == []
    assert order.admit([]) == []


def test_sentences_are_read_only_for_a_task(order):
    order.stop()
    order.hear(lambda: pytest.fail("it was read although no task has come"))
    assert order.admit([]) == []


def test_a_flood_keeps_the_newest_sentences_only(order):
    order.stop()
    heard(order, *range(1000))
    assert order.admit([(1000 - MEMORY - 1, "pushed out")]) == []
    assert order.admit([(1000 - MEMORY, "oldest that is kept")]) == ["oldest that is kept"]
    heard(order, *range(1000, 1000 + MEMORY))
    assert order.admit([(999, "pushed out by later ones")]) == []


def test_a_sentence_of_which_no_task_can_come_is_passed_over(order):
    order.stop()
    order.hear(lambda: None)
    heard(order, "red")
    assert order.admit([(None, 0), ("red", 1)]) == [1]
