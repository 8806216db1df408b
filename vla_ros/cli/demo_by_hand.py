"""Demo of a robot that ships without a policy: driven by keyboard, or held still without a terminal."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Any

from vla_ros.cli.commands.demo import Episode
from vla_ros.cli.keys import single_keys
from vla_ros.policies.keyboard import KeyboardPolicy
from vla_ros.recording.teleoperation import Teleoperation

if TYPE_CHECKING:
    from vla_ros.bringup.runner import GraphRunner
    from vla_ros.cli.keys import Keys
    from vla_ros.client.observer import Observer
    from vla_ros.client.operator_client import Operator
    from vla_ros.robot.contract import RobotContract

HOLD_TIME = 3.0
"""Time for which an arm that nobody drives is held, s of simulation time."""

QUIT = "\x1b"


class EpisodeByHand(Episode):
    """Episode in which the keyboard replaces the policy; without a key press the arm stands still."""

    def __init__(
        self,
        args: argparse.Namespace,
        graph: GraphRunner,
        observer: Observer,
        operator: Operator,
        say: Callable[[str], None],
        contract: RobotContract,
    ) -> None:
        """Prepare the episode; nothing is taken over before the context is entered."""
        super().__init__(args, graph, observer, operator, say)
        self._contract, self._stack = contract, ExitStack()
        self._keyboard = KeyboardPolicy(contract)
        self._keys: Keys | None = None
        self._completed = False

    def __enter__(self) -> EpisodeByHand:
        """Replace the policy node."""
        self._say(
            f"no policy ships for robot '{self._contract.name}': train one ('vla-ros train'), name one with --policy, "
            "or drive it by hand; 'vla-ros record --teleop' records what you do"
        )
        teleoperation = Teleoperation(self._graph.node, self._contract, self._keyboard)
        self._stack.callback(teleoperation.close)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Release everything; without chunks the safety node brings the arm to rest."""
        self._stack.close()

    def figures(self) -> dict[str, Any]:
        """Return the metrics; `completed`: the arm was held or driven to the end while armed."""
        return {
            **super().figures(),
            "driven_by": "hold" if self._keys is None else "keyboard",
            "completed": self._completed,
        }

    def began(self) -> None:
        """Start reading keys if there is a terminal."""
        if sys.stdin.isatty() and not self._args.json:
            self._keys = self._stack.enter_context(single_keys())
            self._say(f"{self._keyboard.help}   Esc: end")
        else:
            self._say(f"no terminal to drive it from: the arm holds for {HOLD_TIME:.0f} s")

    def ended(self) -> bool:
        """Forward the keys; return True after Esc, or after `HOLD_TIME` without a terminal."""
        observer = self._observer
        self._completed = bool(observer.safety.armed)
        if self._keys is None:
            return observer.episode.clock >= HOLD_TIME
        for key in self._keys.read(0.0):
            if key == QUIT:
                return True
            self._keyboard.press(key)
        return False
