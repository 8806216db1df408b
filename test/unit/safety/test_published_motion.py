"""Whether a step leads on from what the controller executes."""

import numpy as np
import pytest

from vla_ros.robot.contract import load_contract
from vla_ros.safety.motion.joint_motion import JointMotion
from vla_ros.safety.motion.published_motion import LONGEST_INTERVAL, PublishedMotion

PERIOD = 0.01
JOINTS = load_contract("panda").joints


@pytest.fixture
def motion():
    motion = JointMotion(JOINTS, PERIOD)
    motion.schedule(100.0)
    for _ in range(20):
        motion.accept(motion.propose(0.2 * JOINTS.velocity))
    return motion


@pytest.fixture
def published(motion):
    published = PublishedMotion(PERIOD)
    published.record(motion.current, 100.2)
    return published


def test_the_first_step_leads_on(motion):
    assert PublishedMotion(PERIOD).continues(motion.current)


def test_the_next_step_and_every_row_of_the_stop_lead_on(motion, published):
    assert published.continues(motion.accept(motion.propose(0.25 * JOINTS.velocity)))
    motion.rejoin(published.last)
    for _ in range(published.last.stop.rows + 10):
        assert published.continues(motion.brake())


def test_a_step_after_one_that_was_not_published_does_not_lead_on(motion, published):
    motion.accept(motion.propose(0.25 * JOINTS.velocity))
    assert not published.continues(motion.accept(motion.propose(0.25 * JOINTS.velocity)))


def test_a_step_after_missed_rows_of_the_stop_leads_on(motion, published):
    for _ in range(3):
        motion.brake()
    assert published.continues(motion.accept(motion.propose(0.1 * JOINTS.velocity)))


@pytest.mark.parametrize("shift", [-PERIOD, -0.3 * PERIOD, 0.3 * PERIOD, PERIOD, 2.0 * PERIOD])
def test_a_moving_step_at_another_time_does_not_lead_on(motion, published, shift):
    step = motion.accept(motion.propose(0.25 * JOINTS.velocity))
    motion.schedule(step.due + shift)
    assert not published.continues(motion.current)


@pytest.mark.parametrize("shift", [-5.0 * PERIOD, -0.3 * PERIOD, 0.3 * PERIOD, 700.3 * PERIOD])
def test_a_step_from_rest_may_be_shifted(motion, shift):
    for _ in range(motion.current.stop.rows + 10):
        motion.brake()
    published = PublishedMotion(PERIOD)
    published.record(motion.current, 101.0)
    motion.schedule(motion.current.due + shift)
    assert published.continues(motion.accept(motion.propose(0.1 * JOINTS.velocity)))
    motion.seed(JOINTS.home + 0.01)
    assert not published.continues(motion.accept(motion.propose(0.1 * JOINTS.velocity)))


def test_an_interruption_counts_in_motion_only(motion, published):
    assert not published.interrupted(100.2 + LONGEST_INTERVAL - 1e-6)
    assert published.interrupted(100.2 + LONGEST_INTERVAL + 1e-6)
    assert published.interrupted(np.nan)
    for _ in range(motion.current.stop.rows + 10):
        motion.brake()
    published.record(motion.current, 101.0)
    assert not published.interrupted(200.0)


def test_the_interval_grows_with_the_period(motion):
    published = PublishedMotion(0.1)
    published.record(motion.current, 100.0)
    assert not published.interrupted(100.15)
    assert published.interrupted(100.17)


def test_no_step_from_before_an_arming_is_published(motion, published):
    old = motion.brake()
    published.clear(motion.current.serial)
    assert not published.continues(old)
    motion.seed(JOINTS.home)
    assert published.continues(motion.brake())
