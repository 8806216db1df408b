"""Interface of every network, so that training and the policy node need not know which one they use.

Inputs and outputs are in the table of `batch`: B scenes, N instructions for each, H rows per chunk, T words.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

from torch import Tensor, nn

from vla_ros.errors import ContractError
from vla_ros.models.batch import ModelInput, ModelOutput, ModelTarget, check_width
from vla_ros.models.configuration import ModelConfig, Sizes, read_config
from vla_ros.models.inputs import check_input, check_target

__all__ = ["Backbone", "Inspection", "ModelInput", "ModelOutput", "ModelTarget", "VlaModel", "check_width"]

_Model = TypeVar("_Model", bound="VlaModel")


@dataclass(frozen=True)
class Inspection:
    """Output of a network with its intermediate predictions.

    Attributes:
        output: The output; `output.attention` is the attention for each instruction.
        heads: Predictions of its heads, by name, each with leading axes (B, N); logits of grippers and of the object's
            presence as probabilities. Besides the common heads, each network has some of its own.
        words: Camera to (B, N, T, h', w'): attention of each word to the image patches, summing to 1, including
            padding. Empty for a network without attention per word.
    """

    output: ModelOutput
    heads: Mapping[str, Tensor]
    words: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def attention(self) -> Mapping[str, Tensor]:
        """Camera to (B, N, h', w'): attention for each instruction; empty for a network without attention."""
        return self.output.attention


@dataclass(frozen=True)
class Backbone:
    """Part of a network for which published weights exist.

    Attributes:
        tower: The part, as a network of Transformers.
        may_differ: Suffixes of weights that are this package's own: tables of the size of its vocabulary.
        words: The network's own word embedding, which can be initialized from the published one.
        owner: Object that loads a saved trunk, for a tower that is half of one.
    """

    tower: nn.Module
    may_differ: tuple[str, ...] = ()
    words: nn.Embedding | None = None
    owner: Any = None


class VlaModel(nn.Module, ABC):
    """Network that maps images, proprioception and an instruction to an action chunk.

    It never moves itself or its inputs to a device and never changes their precision: that is the caller's choice.

    Attributes:
        Config: Class of its configuration.
        TINY: Fields of a configuration that trains a step in under a second on a CPU, besides the required ones.
        FULL: All fields of a configuration of the intended size.
        BACKBONES: Fields of the configuration that may name a published network, to the kinds allowed there.
        LEARNS_PLACES: Whether it is trained on the position of the named object, which is known in simulation but not
            in recordings. Its actions are those of one tool.
    """

    Config: ClassVar[type[ModelConfig]]
    TINY: ClassVar[Mapping[str, Any]]
    FULL: ClassVar[Mapping[str, Any]]
    BACKBONES: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    LEARNS_PLACES: ClassVar[bool] = False
    config: ModelConfig

    def __init__(self, config: ModelConfig) -> None:
        """Store the configuration; the network then builds its parts, with random weights.

        Raises:
            ContractError: when it works in metric space and the actions are not those of one tool.
        """
        super().__init__()
        if self.LEARNS_PLACES and not config.action.of_one_tool:
            raise ContractError(
                f"{type(self).__name__} plans ways from the tool to things in meters: it needs actions of one tool "
                f"with a rotation, and at most one binary gripper; got {config.action.to_dict()}. Choose a network "
                "that is not taught places, such as 'unified' or 'flow'"
            )
        self.config = config

    @classmethod
    def from_config(cls: type[_Model], config: Mapping[str, Any]) -> _Model:
        """Build from plain values, as stored in checkpoints, with random weights; nothing is downloaded.

        Raises:
            ContractError: for a missing, unknown or invalid field.
        """
        network = cls(read_config(cls.Config, config))
        return network.trainable() if network.config.freeze else network

    @classmethod
    def tiny_config(cls, cameras: Sizes, vocabulary: int, state_width: int, horizon: int) -> dict[str, Any]:
        """Return sizes that train a step in under a second on one CPU core; image sides are multiples of 32 px."""
        needed = {"vocabulary": vocabulary, "state_width": state_width, "horizon": horizon}
        return {"cameras": {name: list(size) for name, size in cameras.items()}, **needed, **deepcopy(dict(cls.TINY))}

    @classmethod
    def full_config(cls) -> dict[str, Any]:
        """Return the intended sizes; see `FULL`."""
        return deepcopy(dict(cls.FULL))

    @abstractmethod
    def predict(self, inputs: ModelInput) -> ModelOutput:
        """Predict chunks; shapes as in the table of `batch`.

        Raises:
            ValueError: for a wrong width or an empty batch.
            ObservationError: for a missing camera or a wrong image size.
            InstructionError: for an empty instruction or an unknown token.
        """

    @abstractmethod
    def compute_loss(self, inputs: ModelInput, target: ModelTarget) -> tuple[Tensor, dict[str, float]]:
        """Return the scalar loss and its terms by name; where `target_visible` is 0, actions do not count."""

    def new_cache(self) -> Any:  # noqa: ANN401 (a network's own; no other part looks into it)
        """Return a cache for `predict_next` between the images of one run; None for a network without one."""
        return None

    def predict_next(self, inputs: ModelInput, cache: Any) -> ModelOutput:  # noqa: ANN401 (as above)
        """Predict chunks for the image that follows those in `cache`, a `new_cache` of this run."""
        return self.predict(inputs)

    def inspect(self, inputs: ModelInput) -> Inspection:
        """Return the output, the predictions of each head, and the attention of words to image patches."""
        output = self.predict(inputs)
        heads = {"continuous": output.continuous, "binary": output.binary.sigmoid()}
        if output.target is not None:
            heads["target"] = output.target
        if output.target_visible is not None:
            # Heads, terms of the loss and weights keep the name that they have in checkpoints and reports.
            heads["present"] = output.target_visible.sigmoid()
        return Inspection(output, {**heads, **self.own_heads(inputs)}, self.word_attention(inputs))

    def own_heads(self, inputs: ModelInput) -> dict[str, Tensor]:
        """Return the predictions of heads that only this network has, with leading axes (B, N)."""
        return {}

    def word_attention(self, inputs: ModelInput) -> dict[str, Tensor]:
        """Return `Inspection.words`."""
        return {}

    def backbones(self) -> dict[str, Backbone]:
        """Return the parts that accept published weights, by their fields in `BACKBONES`."""
        return {}

    def cached_shape(self, camera: str) -> tuple[int, int, int] | None:
        """Return the shape (C, h', w') of a feature map that may replace a camera's image (3, h, w), computed once.

        None for a network whose vision is trained, or has no such map.
        """
        return None

    def trainable(self: _Model) -> _Model:
        """Make everything trainable except the backbones frozen by the configuration; return the network."""
        self.requires_grad_(True)
        if self.config.freeze:
            for part in self.backbones().values():
                part.tower.requires_grad_(False)
        return self

    @property
    def parameter_count(self) -> int:
        """Number of trainable parameters."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)

    def check(self, inputs: ModelInput, target: ModelTarget | None = None) -> None:
        """Raise what `predict` raises if this network cannot read `inputs`, or ValueError if `target` does not fit."""
        check_input(inputs, self.config, {name: self.cached_shape(name) for name in self.config.cameras})
        if target is not None:
            check_target(inputs, target, self.config)
