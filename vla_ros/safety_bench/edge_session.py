"""Setup shared by the edge cases: a plant, its arming, and a policy that requests motion."""

from __future__ import annotations

from collections.abc import Callable

from vla_ros.safety.reasons import Reason
from vla_ros.safety_bench.edges import EdgeTrial
from vla_ros.safety_bench.plants import Plant, PlantShadow
from vla_ros.safety_bench.referee.reference_limits import Arming
from vla_ros.types import SafetyState

PATIENCE = 400
"""Number of ticks within which an arm at rest must become ready to be armed."""

MOVING = (SafetyState.RUN, SafetyState.SLOW)


class Session:
    """A plant, its arming, and a policy that requests motion along y."""

    def __init__(self, trial: EdgeTrial, plant: Plant | None = None) -> None:
        self.shadow = PlantShadow(trial.contract, trial.parameters, plant or Plant())
        self.armings: list[Arming] = []

    def arm(self) -> Reason:
        """Request arming once."""
        shadow = self.shadow
        already = shadow.supervisor.armed
        answer = shadow.supervisor.arm(shadow.now)
        if answer is Reason.OK and not already:
            last = shadow.commands[-1] if shadow.steps else None
            self.armings.append(Arming(shadow.now, last, shadow.q.copy()))
        return answer

    def arm_patiently(self, ticks: int = PATIENCE) -> Reason:
        """Request arming at every tick until it is granted."""
        for _ in range(ticks):
            self.shadow.tick()
            if (answer := self.arm()) is Reason.OK:
                return answer
        return answer

    def move(self, ticks: int, speed: float = 0.2, stop: Callable[[], bool] = lambda: False) -> int:
        """Request motion along y at `speed` m/s; return the number of ticks until `stop`."""
        shadow, period = self.shadow, self.shadow.contract.action.period
        for i in range(ticks):
            if i % 10 == 0:
                side = 1.0 if shadow.pose().position[1] < 0.0 or i < 100 else -1.0
                shadow.ask(shadow.way((0.0, side * speed * period / max(shadow.gait, 1e-9), 0.0)))
            shadow.tick()
            if stop():
                return i
        return ticks

    def under_way(self, trial: EdgeTrial, speed: float = 0.2) -> None:
        """Arm and get the arm moving."""
        answer = self.arm_patiently()
        trial.require(answer is Reason.OK, f"an arm at rest is not armed: {answer.label}")
        self.move(40, speed)
        trial.require(
            self.shadow.supervisor.state in MOVING, f"it does not move: {self.shadow.supervisor.reason.label}"
        )
