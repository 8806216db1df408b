"""Shares one policy among clients: each has its own instruction, and no state leaks between them."""

from __future__ import annotations

from vla_ros.policies.protocol import Policy
from vla_ros.types import ActionChunk, Observation


class Session:
    """One client's session with the policy; only one thread at a time may use the sessions of a policy."""

    def __init__(self, shared: SharedPolicy, policy: Policy) -> None:
        """Start without an instruction."""
        self._shared, self._policy = shared, policy
        self._instruction = ""

    def predict(self, observation: Observation, *, first: bool) -> ActionChunk:
        """Return the chunk for an observation with its instruction; the policy is reset when that changes.

        Args:
            observation: The client's observation; its instruction must be set.
            first: Whether the client starts a new episode.

        Raises:
            VlaError: any error of the policy.
        """
        instruction = observation.instruction
        assert instruction is not None
        changed = first or instruction.text != self._instruction
        if self._shared.take(self._policy, self) or changed:
            self._instruction = ""  # until the reset succeeds
            self._policy.reset(instruction)
            self._instruction = instruction.text
        return self._policy.predict(observation)


class SharedPolicy:
    """Creates one session per client.

    If the policy has a method `fork`, which returns a copy with shared weights and its own state, each client gets a
    fork; otherwise the policy is reset whenever the client changes.
    """

    def __init__(self, policy: Policy) -> None:
        """Wrap a policy."""
        self._policy = policy
        self._latest: Session | None = None

    def session(self) -> Session:
        """Return the session of a new client."""
        fork = getattr(self._policy, "fork", None)
        return Session(self, fork() if callable(fork) else self._policy)

    def take(self, policy: Policy, session: Session) -> bool:
        """Claim a policy for a session; return whether another session has used it since."""
        if policy is not self._policy:
            return False
        before, self._latest = self._latest, session
        return before is not session
