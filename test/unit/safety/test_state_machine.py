import pytest

from vla_ros.safety.reasons import Reason
from vla_ros.safety.state_machine import StateMachine
from vla_ros.types import SafetyState

HOLD, RUN, SLOW, ESTOP, DISARMED = (
    SafetyState.HOLD,
    SafetyState.RUN,
    SafetyState.SLOW,
    SafetyState.ESTOP,
    SafetyState.DISARMED,
)


def machine_in(state):
    machine = StateMachine()
    if state is not DISARMED:
        machine.arm()
    if state in (RUN, SLOW):
        machine.run(Reason.OK, "", slow=state is SLOW)
    if state is ESTOP:
        machine.press_estop()
    assert machine.state is state
    return machine


EVENTS = {
    "hold": lambda m: m.hold(Reason.CHUNK_STALE),
    "run": lambda m: m.run(Reason.OK, "", slow=False),
    "slow": lambda m: m.run(Reason.OK, "", slow=True),
    "disarm": lambda m: m.disarm(),
    "disarm, at rest": lambda m: (m.disarm(), m.rested()),
    "at rest": lambda m: m.rested(),
    "press": lambda m: m.press_estop(),
    "release": lambda m: m.release_estop(),
    "reset": lambda m: m.reset(),
    "lost": lambda m: m.lose(Reason.TRACKING, "(x)"),
    "release, reset": lambda m: (m.release_estop(), m.reset()),
}
AFTER = {  # from DISARMED, HOLD, RUN, SLOW, ESTOP
    "hold": (DISARMED, HOLD, HOLD, HOLD, ESTOP),
    "run": (DISARMED, RUN, RUN, RUN, ESTOP),
    "slow": (DISARMED, SLOW, SLOW, SLOW, ESTOP),
    "disarm": (DISARMED, HOLD, HOLD, HOLD, ESTOP),
    "disarm, at rest": (DISARMED, DISARMED, DISARMED, DISARMED, ESTOP),
    "at rest": (DISARMED, HOLD, RUN, SLOW, ESTOP),
    "press": (ESTOP, ESTOP, ESTOP, ESTOP, ESTOP),
    "release": (DISARMED, HOLD, RUN, SLOW, ESTOP),
    "reset": (DISARMED, HOLD, RUN, SLOW, ESTOP),
    "lost": (DISARMED, DISARMED, RUN, SLOW, ESTOP),
    "release, reset": (DISARMED, HOLD, RUN, SLOW, DISARMED),
}


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize(("column", "state"), list(enumerate((DISARMED, HOLD, RUN, SLOW, ESTOP))))
def test_every_event_in_every_state(event, column, state):
    machine = machine_in(state)
    EVENTS[event](machine)
    assert machine.state is AFTER[event][column]


def test_while_disarming_nothing_starts_the_arm_again():
    machine = machine_in(RUN)
    machine.disarm()
    machine.run(Reason.OK, "", slow=False)
    assert (machine.state, machine.reason, machine.armed) == (HOLD, Reason.DISARMING, False)


def test_only_armed_states_are_armed():
    assert [machine_in(s).armed for s in (DISARMED, HOLD, RUN, SLOW, ESTOP)] == [False, True, True, True, False]
    assert [machine_in(s).moving for s in (DISARMED, HOLD, RUN, SLOW, ESTOP)] == [False, False, True, True, False]


def test_a_pressed_button_is_not_reset():
    machine = machine_in(ESTOP)
    assert machine.reset() is Reason.ESTOP_PRESSED
    machine.release_estop()
    assert machine.reason is Reason.ESTOP_LATCHED
    assert machine.reset() is Reason.OK


def test_an_emergency_stop_says_that_the_arm_is_not_commanded_any_more():
    machine = machine_in(ESTOP)
    machine.lose(Reason.TRACKING, "(joint 1, 0.50 rad)")
    for event in (machine.release_estop, machine.press_estop):
        event()
        assert machine.state is ESTOP
        assert "not commanded any more: tracking (joint 1, 0.50 rad)" in machine.detail
    machine.release_estop()
    machine.reset()
    assert (machine.state, machine.detail) == (DISARMED, "")
    machine.press_estop()
    assert machine.detail == ""
