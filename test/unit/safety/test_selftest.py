import numpy as np
import pytest

from vla_ros.safety.motion.joint_motion import JointMotion
from vla_ros.safety.selftest.run import run_selftest
from vla_ros.safety.state_machine import StateMachine


def test_the_shipped_layer_passes(contract, parameters):
    assert run_selftest(contract, parameters) == []


@pytest.mark.parametrize(
    ("where", "what", "instead", "complaint"),
    [
        (StateMachine, "hold", lambda *_, **__: False, "hold"),
        (StateMachine, "run", lambda *_, **__: None, "do not start"),
        (StateMachine, "press_estop", lambda _: None, "emergency stop"),
        (JointMotion, "brake", lambda self: self.current, "acceleration"),
        (JointMotion, "propose", lambda *_: 1 / 0, "do not start"),
    ],
)
def test_a_layer_that_is_broken_does_not(contract, parameters, monkeypatch, where, what, instead, complaint):
    monkeypatch.setattr(where, what, instead)
    assert complaint in " ".join(run_selftest(contract, parameters))


def test_limits_that_are_not_kept_are_found_by_arithmetic(contract, parameters, monkeypatch):
    real = JointMotion.accept

    def careless(self, step):
        real(self, step)
        step.positions[:] = step.positions + 0.01 * np.sign(step.velocities)

    monkeypatch.setattr(JointMotion, "accept", careless)
    assert "of its limit" in " ".join(run_selftest(contract, parameters))
