"""Errors of the package; messages say what was received, what was expected, and what to do."""

from __future__ import annotations


class VlaError(Exception):
    """Root of every error that this package raises on purpose."""


class UsageError(VlaError):
    """A command received an invalid value, or an invalid environment variable."""


class ContractError(VlaError):
    """A robot contract, an action space or a configuration is incomplete or inconsistent."""


class CheckpointError(VlaError):
    """A checkpoint is missing, damaged, or does not fit the robot."""


class ObservationError(VlaError):
    """Sensor data is missing, stale, of the wrong shape or not finite, so no observation can be built."""


class ChunkError(VlaError):
    """An action chunk is malformed: wrong width, ragged, not finite, or of another action space."""


class WireError(VlaError):
    """A message of a remote policy or its client is unreadable: damaged, too large, or of a type never decoded."""


class LinkError(VlaError):
    """A remote policy is unreachable, or has not answered in time; it may be back for the next observation."""


class ServerError(VlaError):
    """A policy server reported an error."""


class InstructionError(VlaError):
    """An instruction is unusable: empty, too long, not text, or about objects unknown to the policy."""


class KinematicsError(VlaError):
    """A pose or a joint configuration has no valid solution within the robot's limits."""


class SimulationError(VlaError):
    """The simulated workcell cannot be built, reset or rendered as requested."""
