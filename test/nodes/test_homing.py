"""The way home that a reset sends to the controllers, against the curve it is made of, and its end."""

import math
import time

import numpy as np
import pytest
from trajectory_msgs.msg import JointTrajectory

from vla_ros.bringup.runner import RosLink
from vla_ros.nodes.sim.homing import SHORTEST, SPEED_SHARE, Homing
from vla_ros.nodes.sim.wait import STALL_TIMEOUT, Patience
from vla_ros.robot.contract import load_contract
from vla_ros.ros.dds.domains import free_domain
from vla_ros.ros.qos import qos

DEADLINE = 20.0
PANDA = load_contract("panda")
HOME = PANDA.joints.home
FAR = HOME + np.array([1.5, -0.3, 0.2, 0.5, -0.4, 0.1, 0.0])


def wait_for(condition):
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


class TestPatience:
    def test_a_slow_clock_is_waited_for(self):
        patience = Patience()
        assert not any(patience.stalled(0.001 * k, 0.9 * STALL_TIMEOUT * k) for k in range(100))

    def test_a_clock_that_stands_still_is_not(self):
        patience = Patience()
        assert not patience.stalled(3.0, 100.0)
        assert not patience.stalled(3.0, 100.0 + STALL_TIMEOUT)
        assert patience.stalled(3.0, 100.0 + STALL_TIMEOUT + 0.01)

    def test_it_begins_again_when_the_clock_moves_either_way(self):
        patience = Patience()
        patience.stalled(3.0, 100.0)
        for now in (3.1, 0.0):  # a simulation that is reset goes back
            assert not patience.stalled(now, 100.0 + 2 * STALL_TIMEOUT)
        assert patience.stalled(0.0, 100.0 + 4 * STALL_TIMEOUT)

    def test_it_has_seen_nothing_before_its_first_look(self):
        assert not Patience().stalled(0.0, 1e9)


@pytest.fixture
def link():
    link = RosLink("homing", free_domain())
    yield link
    link.close()


@pytest.fixture
def controllers(link):
    """What the arm's and the gripper's controllers have heard."""
    heard = [], []
    topics = PANDA.controllers.arm_topic, PANDA.controllers.gripper_topic
    for topic, kept in zip(topics, heard, strict=True):
        link.node.create_subscription(JointTrajectory, topic, kept.append, qos("arm_command"))
    return heard


def one_step(homing, controllers, elapsed):
    """Take a step and return what the arm's controller heard of it."""
    arm, gripper = controllers
    arm.clear()
    gripper.clear()
    homing.step(elapsed)
    wait_for(lambda: arm and gripper)
    return arm[-1]


def test_the_way_is_a_smooth_step_at_a_share_of_the_limit(link, controllers):
    homing = Homing(link.node, PANDA, FAR)
    wait_for(lambda: homing.connected)
    way = HOME - FAR
    duration = 1.5 * np.max(np.abs(way) / (SPEED_SHARE * PANDA.joints.velocity))
    assert duration > SHORTEST
    for share in (0.0, 0.25, 0.5, 0.9):
        message = one_step(homing, controllers, share * duration)
        point = message.points[0]
        assert tuple(message.joint_names) == PANDA.joints.names
        # The integral of 6 s (1 - s) from 0 to `share` by Simpson's rule, which is exact for a parabola.
        gone = share / 6.0 * (0.0 + 4.0 * 6.0 * (share / 2) * (1 - share / 2) + 6.0 * share * (1 - share))
        np.testing.assert_allclose(point.positions, FAR + gone * way, atol=1e-12)
        np.testing.assert_allclose(point.velocities, 6.0 * share * (1.0 - share) * way / duration, atol=1e-12)
        assert not homing.done
    fastest = np.abs(one_step(homing, controllers, 0.5 * duration).points[0].velocities) / PANDA.joints.velocity
    assert math.isclose(fastest.max(), SPEED_SHARE)


def test_it_ends_at_home_with_an_open_hand_however_late(link, controllers):
    homing = Homing(link.node, PANDA, FAR)
    wait_for(lambda: homing.connected)
    point = one_step(homing, controllers, 1e6).points[0]
    assert homing.done
    np.testing.assert_allclose(point.positions, HOME, atol=1e-12)
    np.testing.assert_array_equal(point.velocities, 0.0)
    fingers = controllers[1][-1]
    assert tuple(fingers.joint_names) == PANDA.gripper.names
    assert list(fingers.points[0].positions) == list(PANDA.gripper.open)


def test_time_that_goes_back_does_not_lead_beyond_the_start(link, controllers):
    homing = Homing(link.node, PANDA, FAR)
    wait_for(lambda: homing.connected)
    np.testing.assert_allclose(one_step(homing, controllers, -3.0).points[0].positions, FAR, atol=1e-12)
    assert not homing.done


def test_its_topics_are_gone_when_it_is_closed(link, controllers):
    homing = Homing(link.node, PANDA, FAR)
    topics = PANDA.controllers.arm_topic, PANDA.controllers.gripper_topic
    wait_for(lambda: all(link.node.count_publishers(topic) == 1 for topic in topics))
    homing.close()
    wait_for(lambda: all(link.node.count_publishers(topic) == 0 for topic in topics))


def test_without_controllers_it_is_not_connected(link):
    assert not Homing(link.node, PANDA, FAR).connected
