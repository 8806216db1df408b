import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_ros.robot.contract import load_contract
from vla_ros.safety.motion.gripper_filter import GripperFilter
from vla_ros.safety.reasons import Reason

GRIPPER = load_contract("panda").gripper
PERIOD = 0.01


def the_filter(opening=GRIPPER.max_opening):
    gripper = GripperFilter(GRIPPER, PERIOD, 0.004, 0.25)
    gripper.seed(opening)
    return gripper


def run(gripper, targets):
    openings = [gripper.opening]
    for target in targets:
        gripper.step(target)
        openings.append(gripper.opening)
    return np.array(openings)


@given(st.lists(st.floats(-1.0, 1.0), max_size=200))
def test_range_and_speed_hold_whatever_is_asked(targets):
    openings = run(the_filter(), targets)
    assert (openings >= GRIPPER.min_opening).all()
    assert (openings <= GRIPPER.max_opening).all()
    assert (np.abs(np.diff(openings)) <= GRIPPER.velocity * PERIOD + 1e-12).all()


def test_it_closes_fully_in_the_time_that_its_speed_allows():
    openings = run(the_filter(), [0.0] * 45)
    assert openings[-1] == 0.0
    assert np.flatnonzero(openings == 0.0)[0] == round(GRIPPER.max_opening / (GRIPPER.velocity * PERIOD))


def test_small_changes_are_ignored_but_the_ends_are_taken_exactly():
    assert run(the_filter(0.05), [0.053] * 20)[-1] == 0.05
    assert run(the_filter(0.003), [0.0] * 20)[-1] == 0.0


def test_chatter_reverses_at_most_once_in_its_time():
    openings = run(the_filter(0.04), [0.08, 0.0] * 100)  # open and close, tick by tick, for two seconds
    turns = np.count_nonzero(np.diff(np.sign(np.diff(openings)[np.diff(openings) != 0.0])))
    assert turns <= 2.0 / 0.25


def test_chatter_and_over_wide_are_reported():
    gripper = the_filter(0.04)
    assert gripper.step(0.08) is Reason.OK
    gripper.step(0.0)
    assert gripper.step(0.08) is Reason.GRIPPER_CHATTER
    assert the_filter().step(0.2) is Reason.GRIPPER_RANGE
    assert the_filter().step(0.081) is Reason.OK  # a network's 1.02 is no fault


@pytest.mark.parametrize(("measured", "seeded"), [(-0.01, 0.0), (0.1, 0.08), (0.03, 0.03)])
def test_it_starts_from_what_is_measured(measured, seeded):
    assert the_filter(measured).opening == seeded


def test_held_it_stays_where_it_is():
    gripper = the_filter()
    run(gripper, [0.0] * 10)
    held = gripper.hold()
    assert 0.0 < held < 0.08
    assert gripper.hold() == held
