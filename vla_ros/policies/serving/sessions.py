"""One policy for many clients: each has an instruction of its own, and what is remembered of one reaches no other."""

from __future__ import annotations

from vla_ros.policies.protocol import Policy
from vla_ros.types import ActionChunk, Observation


class Session:
    """What one client asks of the policy; one thread at a time uses all sessions of a policy."""

    def __init__(self, shared: SharedPolicy, policy: Policy) -> None:
        """Begin without an instruction."""
        self._shared, self._policy = shared, policy
        self._instruction = ""

    def predict(self, observation: Observation, *, first: bool) -> ActionChunk:
        """Return the chunk for an observation with its instruction; the policy forgets where that changes.

        Args:
            observation: What the client sees; its instruction is set.
            first: The client says that it begins.

        Raises:
            VlaError: as the policy does.
        """
        instruction = observation.instruction
        assert instruction is not None
        changed = first or instruction.text != self._instruction
        if self._shared.take(self._policy, self) or changed:
            self._instruction = ""  # until it is taken
            self._policy.reset(instruction)
            self._instruction = instruction.text
        return self._policy.predict(observation)


class SharedPolicy:
    """Gives each client a session.

    A policy with a method `fork`, which returns one with the same weights and a memory of its own, keeps apart what it
    remembers of each client; another one is reset whenever another client comes.
    """

    def __init__(self, policy: Policy) -> None:
        """Share a policy."""
        self._policy = policy
        self._latest: Session | None = None

    def session(self) -> Session:
        """Return the session of a new client."""
        fork = getattr(self._policy, "fork", None)
        return Session(self, fork() if callable(fork) else self._policy)

    def take(self, policy: Policy, session: Session) -> bool:
        """Note who uses a policy; return whether it was used by another session since."""
        if policy is not self._policy:
            return False
        before, self._latest = self._latest, session
        return before is not session
