"""What every network offers, so that training and the policy node need not know which one they hold.

What goes in and what comes out stands in the table of `batch`: B scenes, N sentences each, H rows a chunk, T words.
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
    """What a network can tell about one answer.

    Attributes:
        said: The answer itself; `said.attention` is where it looked for each sentence.
        heads: What each of its heads predicted, by name, each with leading axes (B, N); the grippers' and the
            object's logits as probabilities. Beside those of every network, each has some of its own.
        words: Camera to (B, N, T, h', w'): the weights between each word and the image patches, summing to 1; words
            that are padding have a map too. Empty for a network in which no word looks for itself.
    """

    said: ModelOutput
    heads: Mapping[str, Tensor]
    words: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def attention(self) -> Mapping[str, Tensor]:
        """Camera to (B, N, h', w'): where it looked for each sentence; empty for a network without attention."""
        return self.said.attention


@dataclass(frozen=True)
class Backbone:
    """A part of a network that published weights exist for.

    Attributes:
        tower: The part, as Transformers has it.
        may_differ: Endings of its weights that are this package's own: tables whose size is that of its vocabulary.
        words: The network's own table of words, which can begin with the published one's meaning of each word.
        owner: What loads a saved trunk, for a tower that is half of one.
    """

    tower: nn.Module
    may_differ: tuple[str, ...] = ()
    words: nn.Embedding | None = None
    owner: Any = None


class VlaModel(nn.Module, ABC):
    """A network that maps images, proprioception and words to an action chunk.

    It never moves itself or its inputs to a device and never changes their precision: that is the caller's choice.

    Attributes:
        Config: What it is built from.
        TINY: Lines of a configuration that trains a step in under a second on a CPU, beside the four needed ones.
        FULL: All lines of a configuration as large as it is meant to be.
        BACKBONES: Lines of the configuration that may name a published network, to the kinds that fit there.
        LEARNS_PLACES: Whether it is taught where the named thing is, which a simulated world knows and a recording
            does not. Its actions are those of one tool.
    """

    Config: ClassVar[type[ModelConfig]]
    TINY: ClassVar[Mapping[str, Any]]
    FULL: ClassVar[Mapping[str, Any]]
    BACKBONES: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    LEARNS_PLACES: ClassVar[bool] = False
    config: ModelConfig

    def __init__(self, config: ModelConfig) -> None:
        """Keep the configuration; a network builds its parts after that, with random weights.

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
        """Build from plain values, as they stand in a checkpoint, with random weights; nothing is downloaded.

        Raises:
            ContractError: for a line that is missing, unknown, or makes no network.
        """
        network = cls(read_config(cls.Config, config))
        return network.trainable() if network.config.freeze else network

    @classmethod
    def tiny_config(cls, cameras: Sizes, vocabulary: int, state_width: int, horizon: int) -> dict[str, Any]:
        """Return sizes that train a step in under a second on one CPU core; pictures in multiples of 32 pixels."""
        needed = {"vocabulary": vocabulary, "state_width": state_width, "horizon": horizon}
        return {"cameras": {name: list(size) for name, size in cameras.items()}, **needed, **deepcopy(dict(cls.TINY))}

    @classmethod
    def full_config(cls) -> dict[str, Any]:
        """Return sizes as they are meant to be; see `FULL`."""
        return deepcopy(dict(cls.FULL))

    @abstractmethod
    def act(self, given: ModelInput) -> ModelOutput:
        """Predict chunks; shapes as in the table of `batch`.

        Raises:
            ValueError: for a wrong width or no scene at all.
            ObservationError: for a camera that is missing or of another size.
            InstructionError: for an empty sentence or a token that is no word.
        """

    @abstractmethod
    def compute_loss(self, given: ModelInput, wanted: ModelTarget) -> tuple[Tensor, dict[str, float]]:
        """Return the scalar loss and its parts by name; rows whose `present` is 0 do not count for actions."""

    def new_cache(self) -> Any:  # noqa: ANN401 (a network's own; no other part looks into it)
        """Return what `act_next` may keep between the pictures of one run; None for a network that keeps nothing."""
        return None

    def act_next(self, given: ModelInput, cache: Any) -> ModelOutput:  # noqa: ANN401 (as above)
        """Predict chunks for the picture that follows those in `cache`, a `new_cache` of this run."""
        return self.act(given)

    def inspect(self, given: ModelInput) -> Inspection:
        """Return the answer, what each head predicted, and the weights between words and image patches."""
        said = self.act(given)
        heads = {"continuous": said.continuous, "binary": said.binary.sigmoid()}
        if said.target is not None:
            heads["target"] = said.target
        if said.present is not None:
            heads["present"] = said.present.sigmoid()
        return Inspection(said, {**heads, **self.own_heads(given)}, self.word_attention(given))

    def own_heads(self, given: ModelInput) -> dict[str, Tensor]:
        """Return what the heads that only this network has predicted, with leading axes (B, N)."""
        return {}

    def word_attention(self, given: ModelInput) -> dict[str, Tensor]:
        """Return `Inspection.words`."""
        return {}

    def backbones(self) -> dict[str, Backbone]:
        """Return the parts that can be given published weights, by their lines in `BACKBONES`."""
        return {}

    def cached_shape(self, camera: str) -> tuple[int, int, int] | None:
        """Return (C, h', w'): what may stand in the place of a camera's picture (3, h, w), computed once for all.

        None for a network whose part that sees is trained, or has no such map.
        """
        return None

    def trainable(self: _Model) -> _Model:
        """Let training change everything but the backbones that the configuration freezes, and return the network."""
        self.requires_grad_(True)
        if self.config.freeze:
            for part in self.backbones().values():
                part.tower.requires_grad_(False)
        return self

    @property
    def parameter_count(self) -> int:
        """How many numbers training can change."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)

    def check(self, given: ModelInput, wanted: ModelTarget | None = None) -> None:
        """Raise what `act` raises when this network cannot read `given`, or ValueError when `wanted` does not fit."""
        check_input(given, self.config, {name: self.cached_shape(name) for name in self.config.cameras})
        if wanted is not None:
            check_target(given, wanted, self.config)
