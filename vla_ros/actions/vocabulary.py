"""Vocabulary of symbolic actions for plans, with their token ids."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from vla_ros.errors import ContractError, InstructionError
from vla_ros.naming import expected_names

SYMBOLIC_ACTIONS = (
    "navigate_to",
    "pick_up",
    "place_at",
    "place_on",
    "place_in",
    "open",
    "close",
    "push",
    "pull",
    "turn_on",
    "turn_off",
    "look_at",
    "hand_over",
    "wait",
    "done",
)
"""Actions of a household robot arm; "done" ends a plan."""

_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")


@dataclass(frozen=True)
class SymbolicVocabulary:
    """Action names; the index in the tuple is the token id."""

    names: tuple[str, ...] = SYMBOLIC_ACTIONS

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(self.names))
        if not self.names or len(set(self.names)) != len(self.names):
            raise ContractError(f"the vocabulary needs names, each once; got {list(self.names)}")
        if wrong := [name for name in self.names if not _NAME.fullmatch(name)]:
            raise ContractError(f"{wrong}: expected lower-case words joined by underscores")

    def __len__(self) -> int:
        """Number of actions."""
        return len(self.names)

    def tokenize(self, name: str) -> int:
        """Return the token id of an action.

        Raises:
            InstructionError: when the action is unknown; the message lists similar names.
        """
        try:
            return self.names.index(name)
        except ValueError:
            raise InstructionError(f"no action '{name}'; {expected_names(name, self.names)}") from None

    def detokenize(self, token: int) -> str:
        """Return the action of a token id.

        Raises:
            InstructionError: when the id is out of range.
        """
        if not 0 <= token < len(self.names):
            raise InstructionError(f"no action has the token {token}, expected 0 to {len(self.names) - 1}")
        return self.names[token]

    def tokenise_plan(self, names: Iterable[str]) -> list[int]:
        """Return the token ids of a plan."""
        return [self.tokenize(name) for name in names]

    def detokenise_plan(self, tokens: Iterable[int]) -> list[str]:
        """Return the actions of a plan."""
        return [self.detokenize(token) for token in tokens]
