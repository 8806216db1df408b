from __future__ import annotations

from vla_ros.safety.watch.publisher import MOST_PUBLISHERS, PATIENCE, PublisherWatch


def test_one_publisher_is_believed():
    watch = PublisherWatch()
    assert all(watch.receive(b"a", 0.1 * i) for i in range(100))
    assert watch.conflict(10.0) == []


def test_of_two_at_once_none_is_believed():
    watch = PublisherWatch()
    assert watch.receive(b"a", 0.0)
    assert not watch.receive(b"b", 0.1)
    assert not watch.receive(b"a", 0.2)
    assert watch.conflict(0.3) == [b"a", b"b"]


def test_a_publisher_that_was_started_again_is_believed_after_the_patience():
    watch = PublisherWatch()
    assert watch.receive(b"a", 0.0)
    assert watch.receive(b"b", 1.01 * PATIENCE)
    assert watch.conflict(1.01 * PATIENCE) == []


def test_the_memory_is_bounded():
    watch = PublisherWatch()
    for i in range(10 * MOST_PUBLISHERS):
        watch.receive(i.to_bytes(2, "big"), 0.0)
    assert len(watch.conflict(0.0)) == MOST_PUBLISHERS


OWNER, OTHER = b"owner-prefix", b"other-prefix"


def test_where_the_owner_is_known_it_alone_is_believed_however_seldom_it_speaks():
    watch = PublisherWatch()
    assert watch.receive(OWNER + b"task", 0.0, OWNER)
    assert not watch.receive(OTHER + b"task", 100.0, OWNER)
    assert watch.conflict(100.0) == [OWNER + b"task", OTHER + b"task"]
    assert watch.receive(OWNER + b"task", 100.1, OWNER)  # in the midst of the other's
    assert watch.conflict(100.0 + 1.01 * PATIENCE) == []


def test_another_process_is_no_owner_before_the_owner_has_spoken():
    watch = PublisherWatch()
    assert not watch.receive(OTHER + b"task", 0.0, OWNER)
    assert watch.conflict(0.0) == [OTHER + b"task"]


def test_the_participant_is_what_all_publishers_of_a_process_have_in_common():
    watch = PublisherWatch()
    assert watch.participant is None
    watch.receive(OWNER + b"beat", 0.0)
    assert watch.participant == OWNER
