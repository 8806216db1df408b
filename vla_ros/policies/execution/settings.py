"""Execution of chunks: the section `execution` of a policy file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from vla_ros.actions.space import MAX_HORIZON
from vla_ros.errors import ContractError


class Mode(str, Enum):
    """Execution mode: how a new chunk replaces the current one.

    `AUTO` chooses by the measured delay: `SYNCHRONOUS` while it is within one row, else `REAL_TIME_CHUNKING` for a
    policy that accepts a prefix and `ASYNCHRONOUS` for any other.
    """

    AUTO = "auto"
    SYNCHRONOUS = "synchronous"  # unchanged; with `execute` rows, the arm rests until the next chunk has arrived
    ASYNCHRONOUS = "asynchronous"  # the rows of both fade from the old chunk to the new one
    ENSEMBLING = "ensembling"  # mean over all chunks that contain the row (ACT, Zhao et al. 2023, arXiv 2304.13705)
    REAL_TIME_CHUNKING = "real_time_chunking"  # continued from the old chunk (Black et al. 2025, arXiv 2506.07339)


@dataclass(frozen=True)
class ExecutionSettings:
    """Settings of the execution of chunks.

    Attributes:
        mode: Execution mode.
        execute: Number of rows executed before the next inference starts; 0: it starts with the next observation.
        overlap: Number of rows, after those executed during inference, over which the old chunk fades out; 0: as many
            as are executed during inference, and at least 2.
        decay: Decay of the ensembling weights exp(-decay k), where the oldest chunk has k = 0; 0.01 in ACT.
    """

    mode: Mode = Mode.AUTO
    execute: int = 0
    overlap: int = 0
    decay: float = 0.01

    def __post_init__(self) -> None:
        try:
            object.__setattr__(self, "mode", Mode(self.mode))
        except ValueError:
            known = ", ".join(mode.value for mode in Mode)
            raise ContractError(f"execution.mode is {self.mode!r}, expected one of {known}") from None
        for name in ("execute", "overlap"):
            rows = getattr(self, name)
            if type(rows) is not int or not 0 <= rows <= MAX_HORIZON:
                raise ContractError(f"execution.{name} is {rows!r}, expected rows, 0 to {MAX_HORIZON}")
        if isinstance(self.decay, bool) or not isinstance(self.decay, int | float) or not 0.0 <= self.decay < math.inf:
            raise ContractError(f"execution.decay is {self.decay!r}, expected a number of at least 0")

    def with_mode(self, mode: str) -> ExecutionSettings:
        """Return the settings with another mode, or unchanged for "auto": then the policy file decides.

        Raises:
            ContractError: for an unknown mode.
        """
        return self if mode == Mode.AUTO.value else replace(self, mode=mode)  # type: ignore[arg-type]


def read_execution(values: object) -> ExecutionSettings:
    """Return the settings in the section `execution` of a policy file; the defaults for None.

    Raises:
        ContractError: when a line is unknown or invalid.
    """
    if values is None:
        return ExecutionSettings()
    known = list(ExecutionSettings.__dataclass_fields__)
    if not isinstance(values, Mapping):
        raise ContractError(f"execution is {str(values)[:80]!r}, expected lines {', '.join(known)}")
    if unknown := sorted(str(line) for line in values if line not in known):
        raise ContractError(f"execution: unknown {unknown}; expected some of {known}")
    lines: dict[str, Any] = {str(line): value for line, value in values.items()}
    return ExecutionSettings(**lines)
