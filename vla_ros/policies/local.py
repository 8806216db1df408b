"""Policy that runs a network of this package on this machine, on CUDA if available."""

from __future__ import annotations

import copy
import re
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from vla_ros.errors import CheckpointError, ChunkError, InstructionError
from vla_ros.models.batch import ModelOutput
from vla_ros.models.checkpoint import load_checkpoint
from vla_ros.models.contract import Inspection, ModelInput
from vla_ros.models.generative.drawn import DrawnModel
from vla_ros.policies.compatibility import compare
from vla_ros.policies.needs import needs_of_checkpoint
from vla_ros.policies.protocol import Prefix
from vla_ros.processing.history import FrameHistory
from vla_ros.processing.state import observed_arms
from vla_ros.robot.contract import RobotContract
from vla_ros.types import ActionChunk, Instruction, Observation

DEVICES = re.compile(r"auto|cpu|cuda(:[0-9]+)?")
"""Names of the supported devices; PyTorch's other devices were never tried."""


def choose_device(wanted: str) -> torch.device:
    """Return the device called `wanted`; "auto" is CUDA if available, else the CPU.

    Raises:
        CheckpointError: for an unknown name, or when a CUDA device is named that is not available.
    """
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if not DEVICES.fullmatch(wanted):
        raise CheckpointError(f"device is '{wanted}', expected auto, cpu, cuda or cuda:<number>")
    device = torch.device(wanted)
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise CheckpointError(
                f"device '{wanted}' was asked for, but PyTorch sees no CUDA device; use 'auto' or 'cpu'"
            )
        if (device.index or 0) >= torch.cuda.device_count():
            raise CheckpointError(
                f"device '{wanted}' was asked for, but PyTorch sees {torch.cuda.device_count()} of them"
            )
    return device


PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
"""Data types of the weights and computations, by name."""


def choose_precision(wanted: str) -> torch.dtype:
    """Return the precision called `wanted`.

    Raises:
        CheckpointError: for an unknown precision.
    """
    if wanted not in PRECISIONS:
        raise CheckpointError(f"precision is '{wanted}', expected one of {', '.join(PRECISIONS)}")
    return PRECISIONS[wanted]


CONFIDENCE_START, CONFIDENCE_FULL = 0.2, 0.5
"""Presence probabilities of the named object at which the confidence starts to rise from 0, and at which it is 1."""

MAX_LISTED_WORDS = 100
"""Size of the largest vocabulary that is printed, words."""

CONFIDENCE_WINDOW = 5
"""Number of recent presence probabilities of which the best sets the confidence: a grasping hand hides the object."""


Frame = tuple[Mapping[str, torch.Tensor], torch.Tensor]
"""Network inputs from one observation: images by camera, and the state."""


class LocalPolicy:
    """Runs a checkpoint; implements the `Policy` protocol."""

    def __init__(self, folder: Path, contract: RobotContract, device: str = "auto", precision: str = "fp32") -> None:
        """Load a checkpoint for a robot.

        Args:
            folder: Folder of the checkpoint.
            contract: Robot contract.
            device: See `choose_device`.
            precision: Name in `PRECISIONS`, of the weights and of the network's computations.

        Raises:
            CheckpointError: when it cannot be loaded or does not fit the robot, with one line per difference.
        """
        self._device, self._dtype = choose_device(device), choose_precision(precision)
        compare(needs_of_checkpoint(folder), contract).require()
        self._network, self.bundle = load_checkpoint(folder, self._device)
        self._network.to(self._dtype)
        self.name = f"{self.bundle.model}:{folder.name}"
        self.processor = self.bundle.processor
        self.specification = self.bundle.action
        self.device = str(self._device)
        features = self.processor.features
        self.image_sizes: Mapping[str, tuple[int, int]] = {
            camera.source: (camera.height, camera.width) for camera in features.cameras
        }
        self._arms = tuple(dict.fromkeys(group.arm for group in features.state))
        self._robot = contract.arms
        self._history = self._new_history()
        self._tokens: torch.Tensor | None = None
        self._cache = self._network.new_cache()
        self._presence_history: deque[float] = deque(maxlen=CONFIDENCE_WINDOW)
        self._sequence = 0

    def fork(self) -> LocalPolicy:
        """Return a policy with the same network and its own memory, without an instruction."""
        other = copy.copy(self)
        other._tokens, other._sequence = None, 0
        other._cache, other._presence_history = self._network.new_cache(), deque(maxlen=CONFIDENCE_WINDOW)
        other._history = self._new_history()
        return other

    def reset(self, instruction: Instruction) -> None:
        """Take a new instruction.

        Raises:
            InstructionError: naming the words that are not in the network's vocabulary.
        """
        self._tokens = None
        self._cache = self._network.new_cache()  # the old one belongs to the previous instruction
        self._presence_history.clear()
        self._history.clear()
        if unknown := self.processor.tokenizer.unknown(instruction.text):
            raise InstructionError(
                f"'{instruction.text}': the policy was not taught {unknown}; it knows: {self._words()}"
            )
        self._tokens = self.processor.tokens([instruction.text])[None].to(self._device)
        self._instruction = instruction

    def _words(self) -> str:
        """Return the known words, or only their number when the list would be too long to read."""
        words = self.bundle.words
        return ", ".join(words) if len(words) <= MAX_LISTED_WORDS else f"{len(words)} words"

    def predict(self, observation: Observation) -> ActionChunk:
        """Return the chunk (horizon, width) for an observation.

        Raises:
            InstructionError: before the first `reset`.
            ObservationError: when an image is missing or cannot be resized.
        """
        tokens = self._instructed()
        with torch.inference_mode():
            inputs = self._model_input(self._seen(observation), tokens)
            return self._chunk(self._network.predict_next(inputs, self._cache), observation)

    @property
    def accepts_prefix(self) -> bool:
        """Whether the network samples its chunks from noise, and can therefore be guided."""
        return isinstance(self._network, DrawnModel)

    def predict_from(self, observation: Observation, prefix: Prefix) -> ActionChunk:
        """Return the chunk (horizon, width) for an observation, guided to follow `prefix`.

        Raises:
            InstructionError: before the first `reset`.
            ObservationError: when an image is missing or cannot be resized.
            ChunkError: when the network cannot be guided, or for a prefix of another width or longer than the horizon.
        """
        network, tokens = self._network, self._instructed()
        if not isinstance(network, DrawnModel):
            raise ChunkError(f"policy '{self.name}' does not plan on from a prefix")
        with torch.no_grad():  # not inference mode: guidance takes gradients
            known, weights = self._known(prefix)
            inputs = self._model_input(self._seen(observation), tokens)
            return self._chunk(network.predict_guided(inputs, known, weights), observation)

    def _known(self, prefix: Prefix) -> tuple[torch.Tensor, torch.Tensor]:
        """Return a prefix as normalized rows (H, A) of the network, and their weights (H,), 0 beyond the prefix."""
        horizon, width = self.specification.horizon, self.specification.width
        rows, bound = np.zeros((horizon, width)), np.zeros(horizon)
        count = len(prefix.actions)
        if prefix.actions.shape[1] != width or count > horizon:
            raise ChunkError(f"the prefix is {prefix.actions.shape}, expected at most {horizon} x {width}")
        rows[:count], bound[:count] = prefix.actions, prefix.weights
        continuous, binary = self.processor.targets(rows)
        known = torch.cat([continuous, 2.0 * binary - 1.0], dim=-1)
        return known.to(self._device), torch.from_numpy(bound).float().to(self._device)

    def _chunk(self, output: ModelOutput, observation: Observation) -> ActionChunk:
        actions = self.processor.actions(output.continuous[0, 0], output.binary[0, 0])
        visible = output.target_visible
        self._presence_history.append(1.0 if visible is None else float(visible[0, 0].float().sigmoid()))
        margin = (max(self._presence_history) - CONFIDENCE_START) / (CONFIDENCE_FULL - CONFIDENCE_START)
        self.attention = {name: look[0, 0].float().cpu().numpy() for name, look in output.attention.items()}
        self._sequence += 1
        return ActionChunk(
            actions=actions,
            period=self.specification.period,
            observation_stamp=observation.stamp,
            observation_sequence=observation.sequence,
            instruction_sequence=self._instruction.sequence,
            specification=self.specification.fingerprint,
            policy=self.name,
            trust=float(np.clip(margin, 0.0, 1.0)),
            sequence=self._sequence,
        )

    def inspect(self, observation: Observation) -> Inspection:
        """Return each head's prediction for an observation and each word's attention; changes no state.

        Raises:
            InstructionError: before the first `reset`.
            ObservationError: when an image is missing or cannot be resized.
        """
        tokens = self._instructed()
        with torch.inference_mode():
            frames = self._history.peek(observation.stamp, self._frame(observation))
            return self._network.inspect(self._model_input(frames, tokens))

    def _instructed(self) -> torch.Tensor:
        if self._tokens is None:
            raise InstructionError("the policy has no instruction; call reset first")
        return self._tokens

    def _new_history(self) -> FrameHistory[Frame]:
        return FrameHistory(self.processor.features.history, self.specification.period)

    def _seen(self, observation: Observation) -> Sequence[Frame]:
        """Add an observation and return the frames that the network sees now, oldest first."""
        return self._history.add(observation.stamp, self._frame(observation))

    def _frame(self, observation: Observation) -> Frame:
        """Return the images (1, 3, height, width) by camera, and the state (1, state_width), of an observation."""
        images = self.processor.images(observation.images, self._device)
        arms = observed_arms(observation, self._arms, self._robot)
        state = self.processor.state(self.processor.state_of(arms))
        images = {name: image.to(self._dtype) for name, image in images.items()}
        return images, state[None].to(self._device, self._dtype)

    def _model_input(self, frames: Sequence[Frame], tokens: torch.Tensor) -> ModelInput:
        return ModelInput(*self.processor.stack(frames), tokens)
