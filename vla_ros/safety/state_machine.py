"""DISARMED, RUN, SLOW, HOLD, ESTOP: who may go where, and why the machine is where it is.

DISARMED  --arm-->                  HOLD
HOLD      --enough valid inputs-->  RUN <--> SLOW
RUN, SLOW --fault-->                HOLD
armed     --disarm, at rest-->      DISARMED
HOLD      --lost, at rest-->        DISARMED  (an ESTOP stays one, and says so)
any       --pressed-->              ESTOP
ESTOP     --reset-->                DISARMED
"""

from __future__ import annotations

from vla_ros.safety.reasons import Reason
from vla_ros.types import SafetyState

ARMED_STATES = frozenset({SafetyState.RUN, SafetyState.SLOW, SafetyState.HOLD})


class StateMachine:
    """The state and its reason; knows nothing of time, sensors or motion."""

    def __init__(self) -> None:
        """Start disarmed."""
        self.state = SafetyState.DISARMED
        self.reason = Reason.DISARMED
        self.detail = ""
        self.estop_pressed = False
        self.disarming = False

    @property
    def armed(self) -> bool:
        """Say whether the robot may be moved."""
        return self.state in ARMED_STATES and not self.disarming

    @property
    def moving(self) -> bool:
        """Say whether the plan is followed."""
        return self.state in (SafetyState.RUN, SafetyState.SLOW)

    def arm(self) -> None:
        """Hold, ready to run."""
        self.disarming = False
        self._enter(SafetyState.HOLD, Reason.WAITING)

    def disarm(self) -> None:
        """Stop; `rested` ends it."""
        if self.state in ARMED_STATES:
            self.disarming = True
            self._enter(SafetyState.HOLD, Reason.DISARMING)

    def rested(self) -> None:
        """Note that the commanded motion is at rest."""
        if self.disarming:
            self.disarming = False
            self._enter(SafetyState.DISARMED, Reason.DISARMED)

    def lose(self, reason: Reason, detail: str) -> None:
        """Give up commanding the arm because of `reason`; only a new arming goes on. An emergency stop stays."""
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
        """Note that the button is free again; the state stays."""
        self.estop_pressed = False
        if self.state is SafetyState.ESTOP:
            self._enter(SafetyState.ESTOP, Reason.ESTOP_LATCHED, self.detail)

    def reset(self) -> Reason:
        """Leave ESTOP for DISARMED, when the button is free."""
        if self.estop_pressed:
            return Reason.ESTOP_PRESSED
        if self.state is SafetyState.ESTOP:
            self._enter(SafetyState.DISARMED, Reason.DISARMED)
        return Reason.OK

    def hold(self, reason: Reason, detail: str = "") -> bool:
        """Stop because of `reason`; say whether that is new. Nothing happens while disarmed or latched."""
        if self.state not in ARMED_STATES or self.disarming:
            return False
        entered = self.state is not SafetyState.HOLD
        self._enter(SafetyState.HOLD, reason, detail)
        return entered

    def refused(self, reason: Reason) -> None:
        """Say why a chunk was refused while the first ones are waited for."""
        if self.state is SafetyState.HOLD and self.reason is Reason.WAITING:
            self.detail = f"(the last chunk was refused: {reason.label})"

    def run(self, reason: Reason, detail: str, slow: bool) -> None:
        """Follow the plan; `reason` is the correction under way, or OK."""
        if self.state in ARMED_STATES and not self.disarming:
            self._enter(SafetyState.SLOW if slow else SafetyState.RUN, reason, detail)

    def _enter(self, state: SafetyState, reason: Reason, detail: str = "") -> None:
        self.state, self.reason, self.detail = state, reason, detail
