"""Order of a network's action columns: the continuous ones first, then the binary ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from vla_ros.errors import ContractError
from vla_ros.processing.features import PolicyFeatures


@dataclass(frozen=True)
class ActionColumns:
    """Columns of one row of a chunk; by default those of one tool: position, rotation vector and gripper.

    Attributes:
        continuous: Number of normalized columns.
        binary: Number of columns output as the logit of "on".
        rotations: Indices of the continuous columns that belong to tool rotations.
    """

    continuous: int = 6
    binary: int = 1
    rotations: tuple[int, ...] = (3, 4, 5)

    def __post_init__(self) -> None:
        object.__setattr__(self, "rotations", tuple(int(column) for column in self.rotations))
        in_range = all(0 <= column < self.continuous for column in self.rotations)
        if self.continuous < 0 or self.binary < 0 or not self.width or not in_range:
            raise ContractError(
                f"action columns: {self.continuous} continuous, {self.binary} binary, rotations {self.rotations}; "
                "expected at least one column, and rotations among the continuous ones"
            )

    @classmethod
    def of(cls, features: PolicyFeatures) -> ActionColumns:
        """Return the columns of a policy's actions."""
        return cls(len(features.continuous_columns), len(features.binary_columns), features.rotation_columns)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ActionColumns:
        """Build it from the output of `to_dict`.

        Raises:
            ContractError: when keys are missing, unknown or invalid.
        """
        try:
            return cls(int(values["continuous"]), int(values["binary"]), tuple(values["rotations"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ContractError(
                f"action is {values!r}, expected continuous, binary and rotations: {type(error).__name__}: {error}"
            ) from error

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as in a network's configuration."""
        return {"continuous": self.continuous, "binary": self.binary, "rotations": list(self.rotations)}

    @property
    def width(self) -> int:
        """Number of columns in a row."""
        return self.continuous + self.binary

    @property
    def others(self) -> tuple[int, ...]:
        """Indices of the continuous columns that are positions: of a tool, of joints, of a gripper."""
        return tuple(column for column in range(self.continuous) if column not in self.rotations)

    @property
    def of_one_tool(self) -> bool:
        """Whether a row is the position of one tool, its rotation, and at most one gripper."""
        return self.continuous > 3 and self.rotations == tuple(range(3, self.continuous)) and self.binary <= 1


def take(values: Tensor, columns: Sequence[int]) -> Tensor:
    """Return columns of the last axis; adjacent ones without a copy."""
    first, last = columns[0], columns[-1]
    if tuple(columns) == tuple(range(first, last + 1)):
        return values[..., first : last + 1]
    return values[..., list(columns)]
