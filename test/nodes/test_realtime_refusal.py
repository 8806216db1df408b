"""A safety node that may run on one processor only: no real-time priority, and everybody is told."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from vla_ros.bringup.runner import RosLink
from vla_ros.nodes.safety_node import SafetyNode
from vla_ros.ros.dds.domains import free_domain


@pytest.fixture
def one_processor() -> Iterator[None]:
    """Of this thread, and of those that it starts."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    yield
    os.sched_setaffinity(0, before)


def test_on_one_processor_the_node_takes_no_priority_and_says_so(
    one_processor: None, capfd: pytest.CaptureFixture[str]
) -> None:
    del one_processor
    link = RosLink("own", free_domain())
    node = SafetyNode(context=link.node.context, use_global_arguments=False)
    try:
        node.trigger_configure()
        node.trigger_activate()
        (status,) = node.health()
        values = {pair.key: pair.value for pair in status.values}
        assert values["realtime_priority"].startswith("no real-time priority 1: this process may run on one processor")
        assert os.sched_getscheduler(0) != os.SCHED_FIFO
    finally:
        node.finish()
        node.destroy_node()
        link.close()
    assert "no real-time priority 1: this process may run on one processor only" in capfd.readouterr().err
