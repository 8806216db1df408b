"""Small policy that locates the named object as a keypoint in each image, and plans from there.

Convolutions encode each camera once. The instruction (a small GRU) modulates their features (FiLM, Perez et al. 2018),
and spatial softmax (Levine et al. 2016) turns the result into keypoints. The first keypoint of each camera is trained
to locate the named object; the rest are free. From keypoints, pooled features and proprioception, an MLP predicts the
position of the object in the base frame, and a second one, given the offset of that position from the tool, the action
chunk (Zhao et al. 2023). About half a million parameters: it trains on two CPU cores.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from vla_ros.errors import ContractError
from vla_ros.models.batch import ModelInput, ModelOutput, ModelTarget
from vla_ros.models.configuration import ModelConfig
from vla_ros.models.contract import Backbone, VlaModel
from vla_ros.models.layers.encoders import mean_over_words
from vla_ros.models.layers.pointing import pointing_loss, spatial_expectation
from vla_ros.models.layers.scene import cached_shape, named_backbones, named_text_encoder
from vla_ros.models.losses import action_losses, mean_where_present, squared_rotation, total
from vla_ros.models.trunk import KIND
from vla_ros.models.trunk_encoders import TrunkMaps, TrunkTextEncoder, grounding_vector, trunk_sizes

STRIDE = 4
"""Side of a cell of the feature map, image pixels."""


@dataclass(frozen=True)
class KeypointConfig(ModelConfig):
    """Configuration of the network; the first three numbers of the state are the tool's position.

    Attributes:
        channels: Number of channels of the feature maps.
        points: Number of keypoints per camera.
        words: Size of the instruction vector.
        hidden: Width of the MLPs.
        vision: Trunk in place of the convolutions, {"kind": "trunk", sizes}.
        text: Trunk in place of the GRU, likewise. With both, the trunk's positions of object and goal are inputs of the
            MLPs.
    """

    channels: int = 48
    points: int = 6
    words: int = 64
    hidden: int = 256
    vision: Mapping[str, Any] | None = None
    text: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        for name, size in self.cameras.items():
            if any(side % STRIDE or side < 4 * STRIDE for side in size):
                raise ContractError(f"camera '{name}' is {size}, expected multiples of {STRIDE}, at least {4 * STRIDE}")


class KeypointModel(VlaModel):
    """Keypoints, FiLM and two MLPs; see the module."""

    Config = KeypointConfig
    LEARNS_PLACES: ClassVar = True
    TINY: ClassVar = {"channels": 32, "hidden": 128}
    FULL: ClassVar = {
        "cameras": {"front": [224, 224], "wrist": [224, 224]},
        "vocabulary": 4096,
        "state_width": 10,
        "horizon": 16,
        "channels": 128,
        "points": 32,
        "words": 256,
        "hidden": 1024,
    }
    BACKBONES: ClassVar = {"vision": (KIND,), "text": (KIND,)}
    config: KeypointConfig

    def __init__(self, config: KeypointConfig) -> None:
        """Build the network with random weights."""
        super().__init__(config)
        self.maps = None if config.vision is None else TrunkMaps(config.cameras, config.vision)
        self.text = None
        if config.text is None:
            self.embedding = nn.Embedding(config.vocabulary, config.words, padding_idx=0)
            self.sentence: nn.Module = nn.GRU(config.words, config.words, batch_first=True)
        else:
            self.text = named_text_encoder(config.vocabulary, trunk_sizes(config.text).words, config.text)
            self.sentence = nn.Linear(self.text.width, config.words)
        channels = None if self.maps is None else self.maps.channels
        eyes = {name: _Eye(config, channels) for name in config.cameras}
        self.eyes = nn.ModuleDict(eyes)
        seen = sum(eye.width for eye in eyes.values()) + config.state_width + config.words
        if self.maps is not None and self.text is not None:
            seen += len(config.cameras) * self.maps.grounding_width
        self.locate = _perceptron(seen, config.hidden, 3)
        self.present = nn.Linear(seen, 1)
        self.plan = _perceptron(seen + 6, config.hidden, config.horizon * config.action.width)

    def predict(self, inputs: ModelInput) -> ModelOutput:
        """Predict a chunk for every instruction of every scene."""
        self.check(inputs)
        scenes, sentences = inputs.tokens.shape[:2]
        words = self._encode_text(inputs.tokens)
        images = inputs.images if self.maps is None else self.maps.features(inputs.images)
        looks = {name: eye(images[name], words) for name, eye in self.eyes.items()}
        state = inputs.state[:, None].expand(-1, sentences, -1)
        found = self._found(images, inputs.tokens)
        seen = torch.cat([*(look.features for look in looks.values()), *found, state, words], dim=-1)
        target = self.locate(seen)
        # The offset to the object is an explicit input of the MLP below, which would have to learn it otherwise.
        # Both positions are normalized by the same statistics, so that their difference is proportional to meters.
        plan = self.plan(torch.cat([seen, target.detach(), target.detach() - state[..., :3]], dim=-1))
        plan = plan.view(scenes, sentences, self.config.horizon, self.config.action.width)
        return ModelOutput(
            continuous=plan[..., : self.config.action.continuous],
            binary=plan[..., self.config.action.continuous :],
            target=target,
            target_visible=self.present(seen)[..., 0],
            attention={name: look.attention for name, look in looks.items()},
        )

    def _encode_text(self, tokens: Tensor) -> Tensor:
        """Return instruction vectors (B, N, words): the GRU's state at the last word, or a trunk's mean over words."""
        scenes, sentences, length = tokens.shape
        flat = tokens.reshape(-1, length)
        if self.text is not None:
            read: Tensor = self.sentence(mean_over_words(*self.text(flat)))
            return read.view(scenes, sentences, -1)
        states: Tensor
        states, _ = self.sentence(self.embedding(flat))
        last = (flat != 0).sum(dim=1).clamp(min=1) - 1
        return states[torch.arange(len(flat), device=flat.device), last].view(scenes, sentences, -1)

    def _found(self, images: Mapping[str, Tensor], tokens: Tensor) -> list[Tensor]:
        """Return the trunk's grounding of object and goal, (B, N, ...) per camera; [] unless both are a trunk."""
        if self.maps is None or not isinstance(self.text, TrunkTextEncoder):
            return []
        questions = self.text.read(tokens.flatten(0, 1))[2].unflatten(0, tokens.shape[:2])
        found = self.maps.ground(images, questions).values()
        return [grounding_vector(one).unflatten(0, tokens.shape[:2]) for one in found]

    def backbones(self) -> dict[str, Backbone]:
        """Return the halves of a trunk."""
        return named_backbones(self.maps, self.text)

    def cached_shape(self, camera: str) -> tuple[int, int, int] | None:
        """Return the shape of the feature map that may replace a camera's image."""
        return cached_shape(self.config, self.maps, camera)

    def compute_loss(self, inputs: ModelInput, target: ModelTarget) -> tuple[Tensor, dict[str, float]]:
        """Return the loss of the chunk, if the object is there, and of its keypoints, position and presence.

        Raises:
            ValueError: when `target`, or the `pixels` of a camera, are missing.
        """
        self.check(inputs, target)
        output = self.predict(inputs)
        missing = [name for name in self.config.cameras if name not in target.pixels]
        if output.target is None or output.target_visible is None or target.target is None or missing:
            lacks = "`target`" if target.target is None else f"`pixels` of {missing}"
            raise ValueError(f"the keypoint network is taught where the named object is: {lacks} is missing")
        there = target.target_visible
        distance = functional.smooth_l1_loss(output.target, target.target, reduction="none", beta=0.1)
        parts = {
            **action_losses(output, target, self.config.action, squared_rotation),
            "target": 2.0 * mean_where_present(distance, there),
            "present": 0.2 * functional.binary_cross_entropy_with_logits(output.target_visible, target.target_visible),
        }
        for name, attention in output.attention.items():
            parts[f"look_{name}"] = 0.1 * pointing_loss(attention, target.pixels[name], there)
        return total(parts)


@dataclass(frozen=True)
class _Look:
    features: Tensor  # (B, N, width)
    attention: Tensor  # (B, N, h', w'), of the first keypoint


class _Eye(nn.Module):
    """Vision of one camera: convolutions, FiLM by the instruction, keypoints."""

    def __init__(self, config: KeypointConfig, channels: int | None = None) -> None:
        """Build for a trunk's feature maps with `channels` channels; None: for images."""
        super().__init__()
        c = config.channels
        self.middle = 0.5 if channels is None else 0.0
        self.trunk = (
            nn.Sequential(
                nn.Conv2d(3, 24, 5, stride=2, padding=2),
                nn.ReLU(),
                nn.Conv2d(24, 32, 3, stride=2, padding=1),
                nn.ReLU(),
                nn.Conv2d(32, c, 3, padding=1),
                nn.ReLU(),
                nn.Conv2d(c, c, 3, padding=1),
                nn.ReLU(),
            )
            if channels is None
            else nn.Sequential(nn.Conv2d(channels, c, 1), nn.ReLU())
        )
        self.film = nn.Linear(config.words, 2 * c)
        self.mix = nn.Conv2d(c, c, 1)
        self.points = nn.Conv2d(c, config.points, 1)
        self.count = config.points
        self.width = 3 * config.points + c

    def forward(self, image: Tensor, words: Tensor) -> _Look:
        scenes, sentences = words.shape[:2]
        seen = self.mix(self.trunk(image - self.middle))
        scale, shift = self.film(words)[..., None, None].chunk(2, dim=2)
        seen = functional.relu(seen[:, None] * (1.0 + scale) + shift)  # (B, N, c, h', w')
        height, width = seen.shape[-2:]
        weights = self.points(seen.flatten(0, 1)).flatten(2).softmax(dim=-1)  # (BN, K, h'w')
        where = spatial_expectation(weights, (height, width)).flatten(1)  # (BN, 2K)
        sharpness = weights.amax(dim=-1)
        pooled = (weights[:, :1] @ seen.flatten(0, 1).flatten(2).transpose(1, 2))[:, 0]
        features = torch.cat([where, sharpness, pooled], dim=-1).view(scenes, sentences, -1)
        return _Look(features, weights[:, 0].view(scenes, sentences, height, width))


def _perceptron(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, outputs)
    )
