"""State machine of the safety layer, with the reason of its current state.

DISARMED  --arm-->                  HOLD
HOLD      --enough valid inputs-->  RUN <--> SLOW
RUN, SLOW --fault-->                HOLD
armed     --disarm, at rest-->      DISARMED
HOLD      --lost, at rest-->        DISARMED  (ESTOP stays ESTOP, with the reason in its detail)
any       --pressed-->              ESTOP
ESTOP     --reset-->                DISARMED
"""

from __future__ import annotations

from vla_ros.safety.reasons import Reason
from vla_ros.types import SafetyState

ARMED_STATES = frozenset({SafetyState.RUN, SafetyState.SLOW, SafetyState.HOLD})


class StateMachine:
    """State and reason; independent of time, sensors and motion."""

    def __init__(self) -> None:
        """Start disarmed."""
        self.state = SafetyState.DISARMED
        self.reason = Reason.DISARMED
        self.detail = ""
        self.estop_pressed = False
        self.disarming = False

    @property
    def armed(self) -> bool:
        """Whether the robot may be moved."""
        return self.state in ARMED_STATES and not self.disarming

    @property
    def moving(self) -> bool:
        """Whether the plan is being followed."""
        return self.state in (SafetyState.RUN, SafetyState.SLOW)

    def arm(self) -> None:
        """Enter HOLD, ready to run."""
        self.disarming = False
        self._enter(SafetyState.HOLD, Reason.WAITING)

    def disarm(self) -> None:
        """Stop; disarmed once `rested` is called."""
        if self.state in ARMED_STATES:
            self.disarming = True
            self._enter(SafetyState.HOLD, Reason.DISARMING)

    def rested(self) -> None:
        """Record that the commanded motion is at rest."""
        if self.disarming:
            self.disarming = False
            self._enter(SafetyState.DISARMED, Reason.DISARMED)

    def lose(self, reason: Reason, detail: str) -> None:
        """Stop commanding the arm because of `reason`, until it is armed again. An emergency stop stays latched."""
        if self.state is SafetyState.HOLD:
            self.disarming = False
            self._enter(SafetyState.DISARMED, reason, detail)
        elif self.state is SafetyState.ESTOP:
            detail = " ".join(filter(None, (reason.label, detail)))
            self._enter(self.state, self.reason, f"(the arm is not commanded any more: {detail})")

    def press_estop(self) -> None:
        """Latch the emergency stop."""
        self.estop_pressed = True
        self.disarming = False
        detail = self.detail if self.state is SafetyState.ESTOP else ""
        self._enter(SafetyState.ESTOP, Reason.ESTOP_PRESSED, detail)

    def release_estop(self) -> None:
        """Record that the button was released; the state stays ESTOP."""
        self.estop_pressed = False
        if self.state is SafetyState.ESTOP:
            self._enter(SafetyState.ESTOP, Reason.ESTOP_LATCHED, self.detail)

    def reset(self) -> Reason:
        """Leave ESTOP for DISARMED if the button is released."""
        if self.estop_pressed:
            return Reason.ESTOP_PRESSED
        if self.state is SafetyState.ESTOP:
            self._enter(SafetyState.DISARMED, Reason.DISARMED)
        return Reason.OK

    def hold(self, reason: Reason, detail: str = "") -> bool:
        """Hold because of `reason`; return whether HOLD was entered. No effect while disarmed, disarming or latched."""
        if self.state not in ARMED_STATES or self.disarming:
            return False
        entered = self.state is not SafetyState.HOLD
        self._enter(SafetyState.HOLD, reason, detail)
        return entered

    def refused(self, reason: Reason) -> None:
        """Record why a chunk was rejected while waiting for the first ones."""
        if self.state is SafetyState.HOLD and self.reason is Reason.WAITING:
            self.detail = f"(the last chunk was refused: {reason.label})"

    def run(self, reason: Reason, detail: str, slow: bool) -> None:
        """Follow the plan; `reason` is the current correction, or OK."""
        if self.state in ARMED_STATES and not self.disarming:
            self._enter(SafetyState.SLOW if slow else SafetyState.RUN, reason, detail)

    def _enter(self, state: SafetyState, reason: Reason, detail: str = "") -> None:
        self.state, self.reason, self.detail = state, reason, detail
