"""Safety node for tests: on SIGUSR1 the solver of its next tick hangs for a while."""

from __future__ import annotations

import signal
import threading
import time
from typing import Any

from vla_ros.nodes.safety_node import SafetyNode, main
from vla_ros.robot.differential_ik import DifferentialIK

HANG = 0.6
"""Duration of the hang, s: twice as long as any stop takes."""

_PENDING = [False]


def _wait_for_signals() -> None:
    """Handle the signal in a dedicated thread: Python runs handlers only once the main thread's wait returns."""
    while True:
        signal.sigwait({signal.SIGUSR1})
        _PENDING[0] = True


def _hang_when_told() -> None:
    program = DifferentialIK._program

    def hanging(self: DifferentialIK, *arguments: Any) -> Any:  # noqa: ANN401 (those of the program)
        if _PENDING[0]:
            _PENDING[0] = False
            time.sleep(HANG)
        return program(self, *arguments)

    setattr(DifferentialIK, "_program", hanging)  # noqa: B010 (affects this process only)


__all__ = ["SafetyNode"]

if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})  # inherited by every thread started from now on
    threading.Thread(target=_wait_for_signals, name="signals", daemon=True).start()
    _hang_when_told()
    raise SystemExit(main())
