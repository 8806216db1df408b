"""Has the controller let go of the last command? After a gap that was so long the old posture is no command any more.

    gap.command(step)     # every step that is commanded
    gap.over(now)         # before every command, in any thread: nothing goes out while this is true
    gap.look(now)         # every tick: `open` from then on
    gap.away(received, far)   # every sound state of an open gap: the arm is elsewhere, as several in a row show
    gap.close()           # the arm was measured at rest where the stop ended: commands go on from there

A process that was stopped or hung goes on with what it did before, and does not notice. Its controller has followed the
known stop to its end, held that for `TAIL`, and after its own time-out has let go: the arm may have been moved since.
"""

from __future__ import annotations

from vla_ros.safety.command_trajectory import TAIL
from vla_ros.safety.following import LOST_AFTER
from vla_ros.safety.joint_motion import JointStep
from vla_ros.types import FloatArray


class CommandGap:
    """Knows when the controller lets go of the last command; `over` for any thread, the rest for that of the ticks."""

    def __init__(self, period: float, timeout: float) -> None:
        """Take the controller to let go `timeout` s after the end of a trajectory; inf: its time waits for commands."""
        self._period, self._timeout = period, timeout
        self._last: tuple[float, float, FloatArray] | None = None  # due, end of its trajectory, s; (n,) rad, its rest
        self.open = False
        self._away, self._judged_at = 0, 0.0  # states in a row that show the arm elsewhere; receipt of the newest, s

    def command(self, step: JointStep) -> None:
        """Take the step that is commanded."""
        end = step.due + step.ahead.rows * self._period + TAIL
        self._last = step.due, end, step.stop.positions[-1]  # one assignment: `over` is for any thread

    def close(self) -> None:
        """Take the next command to be the first one: nothing was commanded, or it goes on from the place of rest."""
        self._last, self.open, self._away = None, False, 0

    def over(self, now: float) -> bool:
        """Say whether the controller has let go of the last command at `now`, s, clock of the ticks."""
        last = self._last
        return last is not None and not now - last[1] <= self._timeout

    def look(self, now: float) -> None:
        """Find out whether there is a gap; it stays open until `close` or the next command."""
        self.open = self.over(now)

    def away(self, received: float, far: bool) -> bool:
        """Take whether the joint state that came at `received`, s, is `far` from the place of rest.

        Returns:
            Whether `LOST_AFTER` states in a row were: one may be false, or have waited in a queue since the stop.
        """
        if received != self._judged_at:
            self._judged_at, self._away = received, self._away + 1 if far else 0
        return self._away >= LOST_AFTER

    @property
    def rest(self) -> FloatArray | None:
        """Where the known stop of the last command ended, (n,) rad; None when nothing is commanded."""
        return None if self._last is None else self._last[2]

    def detail(self, now: float) -> str:
        """Say how long the gap is."""
        return "" if self._last is None else f"(no command for {now - self._last[0]:.1f} s)"
