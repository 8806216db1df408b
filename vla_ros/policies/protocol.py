"""What anything that acts must offer: a local network, a remote server, a Transformers model."""

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
    """A policy turns observations into action chunks, for one instruction at a time.

    One thread calls it at a time. It keeps no state between instructions: `reset` starts afresh.

    Attributes:
        name: Its name in chunks, status and logs; at most 64 characters.
        specification: Convention that the columns of its chunks follow.
        device: Where it computes: "cpu", "cuda:0", or the address of a remote server.
        image_sizes: Camera name to the (height, width), px, of the images that it wants; a policy that never looks
            at a camera does not name it.
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
        """Take a new instruction and forget the one before.

        Raises:
            InstructionError: when it cannot follow the instruction, naming the words that it does not know.
        """
        ...

    def predict(self, observation: Observation) -> ActionChunk:
        """Return the plan for what is seen now; `observation.instruction` is set.

        Raises:
            ObservationError: when a camera is missing or an image has another size than `image_sizes` says.
        """
        ...


def close_policy(policy: Policy) -> None:
    """Let a policy that holds a connection or a process, and so has a method `close`, give it up."""
    close = getattr(policy, "close", None)
    if callable(close):
        close()


@dataclass(frozen=True)
class Prefix:
    """The plan that is being carried out, as rows of the chunk that shall go on from it.

    Attributes:
        actions: (h, width), h at most the policy's horizon, in the policy's convention and from its new observation.
        weights: (h,), how firmly each row binds the new chunk: 1 will be carried out whatever is planned, 0 is free.
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
    """A policy that can plan on from what is being carried out.

    Attributes:
        accepts_prefix: Whether it can, with the network that it has.
    """

    accepts_prefix: bool

    def predict_from(self, observation: Observation, prefix: Prefix) -> ActionChunk:
        """Return the plan for what is seen now that keeps to `prefix`, row by row as its weights say.

        Raises:
            ObservationError: as `predict` does.
            ChunkError: for a prefix of another width, or longer than the horizon.
        """
        ...


def accepts_prefix(policy: Policy) -> bool:
    """Return whether a policy plans on from a prefix."""
    return isinstance(policy, PrefixPolicy) and bool(policy.accepts_prefix)


@runtime_checkable
class ExecutingPolicy(Policy, Protocol):
    """A policy that joins its chunks to those before, and so wants to know when each is carried out."""

    def is_due(self, stamp: float) -> bool:
        """Return whether an observation of `stamp`, s, shall be planned from."""
        ...

    def delivered(self, chunk: ActionChunk, delay: float) -> None:
        """Be told that a chunk is carried out from now on, `delay` s after its observation."""
        ...

    def describe(self) -> str:
        """Return how its chunks follow each other at present, for people."""
        ...


def is_due(policy: Policy, stamp: float) -> bool:
    """Return whether a policy shall plan from an observation of `stamp`, s: most do from every one."""
    return not isinstance(policy, ExecutingPolicy) or policy.is_due(stamp)


def tell_delivered(policy: Policy, chunk: ActionChunk, delay: float) -> None:
    """Tell a policy that wants to know it that a chunk is carried out from now on, `delay` s after its observation."""
    if isinstance(policy, ExecutingPolicy):
        policy.delivered(chunk, delay)


def describe_execution(policy: Policy) -> str:
    """Return how the chunks of a policy follow each other at present, for people; "" where it does not say."""
    return policy.describe() if isinstance(policy, ExecutingPolicy) else ""
