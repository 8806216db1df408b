"""Errors of the package: each says what was got, what was expected, and what to do."""

from __future__ import annotations


class VlaError(Exception):
    """Root of every error that this package raises on purpose."""


class UsageError(VlaError):
    """A command was given a value, or an environment variable, that it cannot work with."""


class ContractError(VlaError):
    """A robot contract, an action specification or a configuration is incomplete or contradicts itself."""


class CheckpointError(VlaError):
    """A checkpoint is missing, damaged, or does not fit the robot that it is asked to drive."""


class ObservationError(VlaError):
    """Sensor data is absent, stale, of the wrong shape or not finite, so no observation can be built from it."""


class ChunkError(VlaError):
    """An action chunk is malformed: wrong width, ragged, not finite, or of another specification."""


class WireError(VlaError):
    """A message of a remote policy or of its client cannot be read: damaged, too large, or of a kind never opened."""


class LinkError(VlaError):
    """A remote policy cannot be reached, or has not answered in time; it may be back for the next observation."""


class ServerError(VlaError):
    """A policy server answered with an error of its own."""


class InstructionError(VlaError):
    """An instruction cannot be used: empty, too long, not text, or about things the policy does not know."""


class KinematicsError(VlaError):
    """A pose or a joint configuration has no valid solution within the robot's limits."""


class SimulationError(VlaError):
    """The simulated cell cannot be built, reset or rendered as asked."""
