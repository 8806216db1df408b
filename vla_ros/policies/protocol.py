"""What anything that acts must offer: a local network, a remote server, a Transformers model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from vla_ros.actions.space import ActionSpace
from vla_ros.types import ActionChunk, Instruction, Observation


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

    name: str
    specification: ActionSpace
    device: str
    image_sizes: Mapping[str, tuple[int, int]]

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
