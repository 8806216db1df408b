"""Policy behind a server with openpi's protocol: msgpack over a WebSocket, one answer for each observation.

Source of the protocol: `websocket_client_policy.py` of `openpi-client` 0.1.2. The server sends its metadata first; each
binary message of the client is an observation, each binary answer has `actions` (horizon, width); a text message is an
error.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from vla_ros.errors import CheckpointError, ChunkError, ContractError, InstructionError, LinkError
from vla_ros.policies.compatibility import compare
from vla_ros.policies.conversion import Converter
from vla_ros.policies.needs import needs_of_features
from vla_ros.policies.remote.address import Address, client_tls, read_token
from vla_ros.policies.remote.answers import read_answer
from vla_ros.policies.remote.features import RemoteFeatures
from vla_ros.policies.remote.link import GREETING_TIMEOUT, Link
from vla_ros.policies.remote.wire import pack
from vla_ros.robot.contract import RobotContract
from vla_ros.types import ActionChunk, Instruction, Observation

TIMEOUT, MAX_TIMEOUT = 1.0, 30.0
"""Timeout of one answer, s: its default and its maximum."""

MAX_ANSWER_SIZE = 1 << 20
"""Size limit of an answer, bytes; a chunk of 1024 rows of 64 numbers has half of it."""

METADATA_KEY = "vla_ros"
"""Key of the policy's features in the metadata of `vla-ros serve`."""


@dataclass(frozen=True)
class OpenpiSettings:
    """Settings of the connection to a server, from a policy's file or address.

    Attributes:
        address: Address of the server.
        features: Its inputs and outputs; None: taken from its metadata, as `vla-ros serve` sends them.
        timeout: Timeout of one answer, s, including the round trip.
        token_file: File with the token.
        token_env: Environment variable with the token.
        ca_file: PEM file of the authority that signed the server's certificate; "": the system's authorities.
    """

    address: Address
    features: RemoteFeatures | None = None
    timeout: float = TIMEOUT
    token_file: str = ""
    token_env: str = ""
    ca_file: str = ""

    def __post_init__(self) -> None:
        if not 0.0 < self.timeout <= MAX_TIMEOUT:
            raise ContractError(f"timeout is {self.timeout} s, expected more than 0 and at most {MAX_TIMEOUT:g}")

    @property
    def tls(self) -> ssl.SSLContext | None:
        """TLS context of the client; None without TLS."""
        return client_tls(self.address, self.ca_file)


class OpenpiPolicy:
    """Implements the `Policy` protocol with a remote server; `predict` raises `LinkError` while it is unreachable."""

    def __init__(self, settings: OpenpiSettings, contract: RobotContract, *, wait: float = GREETING_TIMEOUT) -> None:
        """Connect to the server.

        Args:
            settings: Settings of the connection.
            contract: Robot contract.
            wait: Longest wait for the server, s. A policy whose features are in its file is ready without it.

        Raises:
            CheckpointError: when the policy does not fit the robot, with one line per difference, or when its
                features must come from a server that is unreachable.
        """
        self._settings, self._contract = settings, contract
        self._features = settings.features
        self._converter: Converter | None = None
        self.name = str(settings.address)
        self.device = str(settings.address)
        self.specification = contract.action
        self.image_sizes: Mapping[str, tuple[int, int]] = MappingProxyType({})
        self._instruction: Instruction | None = None
        self._greeted = -1
        self._sequence = 0
        if self._features is not None:
            self._fit(self._features)
        self._link = Link(
            settings.address,
            self._greet,
            token=read_token(settings.token_file, settings.token_env),
            tls=settings.tls,
            max_bytes=MAX_ANSWER_SIZE,
        )
        try:
            connected = self._link.wait(wait)
            if not connected and self._features is None:
                raise CheckpointError(
                    f"{self._link.explain()}. What it takes and gives comes from the server: start it first "
                    "('vla-ros serve'), or name a policy file that says so (docs/policies.md)"
                )
        except BaseException:
            self._link.close()
            raise

    def reset(self, instruction: Instruction) -> None:
        """Take a new instruction; whether the server understands it shows only with the first answer."""
        self._instruction, self._greeted = instruction, -1

    def predict(self, observation: Observation) -> ActionChunk:
        """Return the server's chunk, stamped with the observation's time, so that its age includes the round trip.

        Raises:
            InstructionError: before the first `reset`, or when the server cannot follow the instruction.
            ObservationError: when a camera is missing or its image cannot be resized.
            LinkError: when the server is unreachable, busy, or has not answered in time.
            WireError: for an answer that is not a message of the protocol, or too large.
            ChunkError: for actions of another shape, or non-finite ones.
            ServerError: for an error of the server.
        """
        if self._instruction is None:
            raise InstructionError("the policy has no instruction; call reset first")
        features, converter = self._features, self._converter
        if features is None or converter is None:
            raise LinkError(self._link.explain())
        generation = self._link.generation
        request = features.observation(
            observation, self._instruction.text, self._contract.arms, first=self._greeted != generation
        )
        answer = self._link.ask(pack(request), self._settings.timeout)
        actions, confidence = read_answer(answer, features)
        self._greeted = generation
        self._sequence += 1
        return ActionChunk(
            actions=converter(actions, observation.state),
            period=self.specification.period,
            observation_stamp=observation.stamp,
            observation_sequence=observation.sequence,
            instruction_sequence=self._instruction.sequence,
            specification=self.specification.fingerprint,
            policy=self.name[:64],
            trust=confidence,
            sequence=self._sequence,
        )

    def close(self) -> None:
        """End the connection."""
        self._link.close()

    def _greet(self, metadata: Mapping[str, Any]) -> None:
        """Check a server's metadata; called in the thread of the link.

        Raises:
            CheckpointError: when it lacks the features, or they differ from the expected ones.
        """
        served, known = _served_features(metadata), self._features
        if served is None and self._settings.features is None:
            raise CheckpointError(
                "its metadata does not say what it takes and gives, as that of 'vla-ros serve' does; name the keys in "
                "a policy file, as config/policies/openpi.yaml does"
            )
        if served is None:
            return
        if known is None:
            self._fit(served)
        elif differences := known.action.differences(served.action):
            raise CheckpointError("it serves other actions than are expected: " + "; ".join(differences))
        elif self._settings.features is None and known.to_dict() != served.to_dict():
            raise CheckpointError("it serves a policy that takes other observations than the one before")

    def _fit(self, features: RemoteFeatures) -> None:
        compare(needs_of_features(features, f"at {self._settings.address}"), self._contract).require()
        try:
            self._converter = Converter(features.action, self._contract.action, self._contract)
        except ChunkError as error:
            raise CheckpointError(f"the policy at {self._settings.address}: {error}") from error
        self._features = features
        self.image_sizes = MappingProxyType(
            {one.feature.source: (one.feature.height, one.feature.width) for one in features.cameras}
        )


def _served_features(metadata: Mapping[str, Any]) -> RemoteFeatures | None:
    values = metadata.get(METADATA_KEY)
    if values is None:
        return None
    if not isinstance(values, Mapping):
        raise CheckpointError(f"its metadata has a {type(values).__name__} under '{METADATA_KEY}', expected a mapping")
    try:
        return RemoteFeatures.from_dict(values)
    except ContractError as error:
        raise CheckpointError(f"its metadata: {error}") from error
