"""Policy protocol: the interface of a local network, a remote server or a Transformers model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from vla_ros.actions.space import ActionSpace
from vla_ros.errors import ChunkError
from vla_ros.types import ActionChunk, FloatArray, Instruction, Observation, frozen_array


@runtime_checkable
class Policy(Protocol):
    """Turns observations into action chunks, for one instruction at a time.

    One thread calls it at a time. It keeps no state between instructions: `reset` clears it.

    Attributes:
        name: Name in chunks, statuses and logs; at most 64 characters.
        specification: Action space of its chunks.
        device: Device: "cpu", "cuda:0", or the address of a remote server.
        image_sizes: Required image size (height, width), px, by camera name; cameras that it does not use are absent.
    """

    @property
    def name(self) -> str: ...  # noqa: D102 (see the class)

    @property
    def specification(self) -> ActionSpace: ...  # noqa: D102

    @property
    def device(self) -> str: ...  # noqa: D102

    @property
    def image_sizes(self) -> Mapping[str, tuple[int, int]]: ...  # noqa: D102

    def reset(self, instruction: Instruction) -> None:
        """Start a new instruction and discard the previous one.

        Raises:
            InstructionError: when it cannot follow the instruction; it names the unknown words.
        """
        ...

    def predict(self, observation: Observation) -> ActionChunk:
        """Return the plan for the current observation; `observation.instruction` is set.

        Raises:
            ObservationError: when a camera is missing, or an image's size differs from `image_sizes`.
        """
        ...


def close_policy(policy: Policy) -> None:
    """Close a policy that has a method `close`, because it holds a connection or a process."""
    close = getattr(policy, "close", None)
    if callable(close):
        close()


@dataclass(frozen=True)
class Prefix:
    """Plan being executed, as rows of the chunk that shall continue it.

    Attributes:
        actions: (h, width), h at most the policy's horizon, in the policy's action space, from its new observation.
        weights: (h,), how strongly each row binds the new chunk: 1 will be executed in any case, 0 is free.
    """

    actions: FloatArray
    weights: FloatArray

    def __post_init__(self) -> None:
        for name in ("actions", "weights"):
            object.__setattr__(self, name, frozen_array(getattr(self, name)))
        actions, weights = self.actions, self.weights
        if actions.ndim != 2 or not len(actions) or weights.shape != (len(actions),):
            raise ChunkError(f"a prefix has actions {actions.shape} and weights {weights.shape}, expected one a row")
        if not (np.isfinite(actions).all() and (weights >= 0.0).all() and (weights <= 1.0).all()):
            raise ChunkError("a prefix needs finite actions and weights of 0 to 1")


@runtime_checkable
class PrefixPolicy(Policy, Protocol):
    """A policy that can continue the plan being executed.

    Attributes:
        accepts_prefix: Whether its network supports it.
    """

    accepts_prefix: bool

    def predict_from(self, observation: Observation, prefix: Prefix) -> ActionChunk:
        """Return the plan for the current observation that follows `prefix`, row by row according to its weights.

        Raises:
            ObservationError: as for `predict`.
            ChunkError: for a prefix of another width, or longer than the horizon.
        """
        ...


def accepts_prefix(policy: Policy) -> bool:
    """Return whether a policy can continue from a prefix."""
    return isinstance(policy, PrefixPolicy) and bool(policy.accepts_prefix)


@runtime_checkable
class ExecutingPolicy(Policy, Protocol):
    """A policy that joins its chunks to the previous ones, and must know when each is executed."""

    def is_due(self, stamp: float) -> bool:
        """Return whether to plan from an observation of `stamp`, s."""
        ...

    def delivered(self, chunk: ActionChunk, delay: float) -> None:
        """Record that a chunk is executed from now on, `delay` s after its observation."""
        ...

    def describe(self) -> str:
        """Return a human-readable summary of the current execution of its chunks."""
        ...


def is_due(policy: Policy, stamp: float) -> bool:
    """Return whether a policy shall plan from an observation of `stamp`, s; most plan from every one."""
    return not isinstance(policy, ExecutingPolicy) or policy.is_due(stamp)


def tell_delivered(policy: Policy, chunk: ActionChunk, delay: float) -> None:
    """Notify an `ExecutingPolicy` that a chunk is executed from now on, `delay` s after its observation."""
    if isinstance(policy, ExecutingPolicy):
        policy.delivered(chunk, delay)


def describe_execution(policy: Policy) -> str:
    """Return a human-readable summary of a policy's execution of chunks; "" unless it is an `ExecutingPolicy`."""
    return policy.describe() if isinstance(policy, ExecutingPolicy) else ""
