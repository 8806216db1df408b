"""Parses a policy server's answer into rows of its own action space; an invalid answer is rejected with a reason."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from vla_ros.errors import ChunkError, InstructionError, LinkError, ServerError, VlaError
from vla_ros.policies.remote.features import RemoteFeatures
from vla_ros.policies.remote.wire import unpack
from vla_ros.types import FloatArray

BUSY, NOT_UNDERSTOOD = "Busy: ", "InstructionError: "
"""Prefixes of error texts from `vla-ros serve` that a client does not treat as a fault."""

MAX_ERROR_LENGTH = 200


def read_answer(answer: bytes | str, features: RemoteFeatures) -> tuple[FloatArray, float]:
    """Return the actions (h, width), in the server's action space, and its confidence, 0 to 1.

    Raises:
        WireError: when it is no message of the protocol.
        ChunkError: when the actions are missing, not numeric, of another shape, or not finite; or the confidence is
            invalid.
        ServerError: when it is an error text.
        InstructionError: when the error text says that the instruction cannot be followed.
        LinkError: when the error text says that the server is busy.
    """
    if isinstance(answer, str):
        raise _error_of(answer)
    values = unpack(answer)
    space, actions = features.action, values.get(features.action_key)
    if not isinstance(actions, np.ndarray) or actions.dtype.kind not in "fiu":
        got = type(actions).__name__ if actions is not None else f"only {sorted(values)}"
        raise ChunkError(f"the server's answer: expected an array of numbers under '{features.action_key}', got {got}")
    if actions.ndim != 2 or actions.shape[1] != space.width or not 1 <= actions.shape[0] <= space.horizon:
        raise ChunkError(
            f"the server's actions have shape {actions.shape}, expected 1 to {space.horizon} rows of {space.width} "
            f"columns: {[group.name for group in space.groups]}"
        )
    if not np.isfinite(actions).all():
        raise ChunkError(
            f"{int((~np.isfinite(actions)).sum())} of {actions.size} of the server's values are not finite"
        )
    return np.asarray(actions, dtype=np.float64), _confidence(values, features)


def _confidence(values: Mapping[str, Any], features: RemoteFeatures) -> float:
    if features.confidence_key is None:
        return 1.0
    confidence = values.get(features.confidence_key)
    if not isinstance(confidence, int | float | np.number) or not 0.0 <= float(confidence) <= 1.0:
        raise ChunkError(
            f"the server's '{features.confidence_key}' is {str(confidence)[:40]}, expected a number of 0 to 1"
        )
    return float(confidence)


def _error_of(text: str) -> VlaError:
    """Convert a text frame to an error; the last line of a traceback names it."""
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    last = lines[-1][:MAX_ERROR_LENGTH] if lines else "(an empty text)"
    if text.startswith(BUSY):
        return LinkError(f"the server is busy: {last.removeprefix(BUSY)}")
    if text.startswith(NOT_UNDERSTOOD):
        return InstructionError(last.removeprefix(NOT_UNDERSTOOD))
    return ServerError(f"the server answers with an error: {last}")
