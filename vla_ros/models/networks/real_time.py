"""Low latency: MobileNetV2 (Sandler et al. 2018) for images, an LSTM for words, no attention.

For each new image, only the convolutions and two MLPs run. The encoding of the words is cached until they change, and a
network trained on sequences carries a recurrent state from image to image:

    cache = network.new_cache()
    for inputs in frames:
        output = network.predict_next(inputs, cache)  # new words reset the cache
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from vla_ros.models.batch import ModelInput, ModelOutput, ModelTarget
from vla_ros.models.configuration import TowerConfig
from vla_ros.models.contract import Backbone, VlaModel
from vla_ros.models.layers.backbones import HALF, build_tower, choose_norm, standardize
from vla_ros.models.layers.encoders import mean_over_words, repeat_scenes
from vla_ros.models.layers.precision import full_precision
from vla_ros.models.layers.scene import ProjectedText, cached_shape, named_backbones, named_text_encoder
from vla_ros.models.losses import chunk_losses, total
from vla_ros.models.networks.regression import ChunkHead
from vla_ros.models.trunk import KIND
from vla_ros.models.trunk_encoders import TrunkMaps, is_trunk_line


@dataclass(frozen=True)
class RealTimeConfig(TowerConfig):
    """Configuration of the network; `vision` holds sizes of MobileNetV2; `hidden` also sizes the recurrent state.

    Attributes:
        channels: Number of channels of the last feature map, after a 1 x 1 convolution.
        text_width: Width of the LSTM.
        text_layers: Number of layers of the LSTM.
        text: Trunk in place of the LSTM, {"kind": "trunk", sizes}.
        recurrent: Carry a state from image to image. Only for networks trained with `compute_sequence_loss`: any other
            network has never seen a carried state.
    """

    channels: int = 32
    text_width: int = 64
    text_layers: int = 2
    text: Mapping[str, Any] | None = None
    recurrent: bool = False


@dataclass
class RealTimeCache:
    """Cache between the images of one run.

    Attributes:
        tokens: Words that the rest belongs to; None at the start.
        words: (B * N, text_width), encoding of the words.
        state: (B * N, hidden), the recurrent state; None before the first image.
        reads: Number of times that words were encoded: once per instruction.
    """

    tokens: Tensor | None = None
    words: Tensor | None = None
    state: Tensor | None = None
    reads: int = 0

    def begin(self, tokens: Tensor) -> bool:
        """Return whether `tokens` are new words; if so, drop the cached values of the old ones."""
        if self.tokens is not None and self.tokens.shape == tokens.shape and torch.equal(self.tokens, tokens):
            return False
        self.tokens, self.words, self.state = tokens.clone(), None, None
        return True


class RealTimeModel(VlaModel):
    """MobileNetV2 and LSTM with an optional recurrent state; see the module."""

    Config = RealTimeConfig
    TINY: ClassVar = {
        "vision": {"depth_multiplier": 0.25, "min_depth": 8, "finegrained_output": False, "output_stride": 16},
        "shrink": 2,
        "text_width": 32,
        "text_layers": 1,
        "hidden": 128,
    }
    FULL: ClassVar = {  # MobileNetV2 at full width, with the two LSTM layers of 256 of the original sketch
        "cameras": {"front": [224, 224], "wrist": [224, 224]},
        "vocabulary": 4096,
        "state_width": 10,
        "horizon": 16,
        "words": 32,
        "vision": {},
        "channels": 64,
        "text_width": 256,
        "text_layers": 2,
        "hidden": 512,
    }
    BACKBONES: ClassVar = {"vision": ("mobilenet_v2", KIND), "text": (KIND,)}
    config: RealTimeConfig

    def __init__(self, config: RealTimeConfig) -> None:
        """Build the network with random weights."""
        super().__init__(config)
        self.maps = TrunkMaps(config.cameras, config.vision or {}) if is_trunk_line(config.vision) else None
        if self.maps is None:
            self.tower = choose_norm(build_tower("mobilenet_v2", config.vision or {}), config.norm)
        with torch.no_grad():
            first = next(iter(config.cameras.values()))
            depth = self._encode_image(torch.zeros(1, 3, *first)).shape[1]
            cells = sum(self._encode_image(torch.zeros(1, 3, *s))[0, 0].numel() for s in config.cameras.values())
        self.reduce = nn.Sequential(nn.Conv2d(depth, config.channels, 1), nn.SiLU())
        if config.text is None:
            self.embedding = nn.Embedding(config.vocabulary, config.text_width, padding_idx=0)
            self.text: nn.Module = nn.LSTM(config.text_width, config.text_width, config.text_layers, batch_first=True)
        else:
            named = named_text_encoder(config.vocabulary, config.words, config.text)
            self.text = ProjectedText(named, config.text_width)
        self.film = nn.Linear(config.text_width, 2 * config.hidden)
        self.look = nn.Sequential(nn.Linear(cells * config.channels, config.hidden), nn.LayerNorm(config.hidden))
        self.enter = nn.Linear(config.hidden + config.state_width + config.text_width, config.hidden)
        self.memory = nn.GRUCell(config.hidden, config.hidden) if config.recurrent else None
        self.head = ChunkHead(config.hidden, config.hidden, config.horizon, config.action)

    def backbones(self) -> dict[str, Backbone]:
        """Return the tower, or the halves of a trunk; published weights require `norm: frozen`."""
        parts = named_backbones(self.maps, self.text)
        return parts if self.maps is not None else {"vision": Backbone(self.tower), **parts}

    def cached_shape(self, camera: str) -> tuple[int, int, int] | None:
        """Return the shape of the feature map that may replace a camera's image."""
        return cached_shape(self.config, self.maps, camera)

    def new_cache(self) -> RealTimeCache:
        """Return an empty cache, for one run."""
        return RealTimeCache()

    def predict(self, inputs: ModelInput, cache: RealTimeCache | None = None) -> ModelOutput:
        """Predict chunks; with a cache, unchanged words are not encoded again."""
        self.check(inputs)
        cache = self.new_cache() if cache is None else cache
        cache.begin(inputs.tokens)
        if cache.words is None:
            cache.words, cache.reads = self._encode_text(inputs.tokens.flatten(0, 1)), cache.reads + 1
        return self._decide(inputs, cache)

    def predict_next(self, inputs: ModelInput, cache: RealTimeCache) -> ModelOutput:
        """Predict chunks for the image that follows those in `cache`."""
        return self.predict(inputs, cache)

    def compute_loss(self, inputs: ModelInput, target: ModelTarget) -> tuple[Tensor, dict[str, float]]:
        """Return the loss of single images, each the first of its run."""
        self.check(inputs, target)
        return total(chunk_losses(self.predict(inputs), target, self.config.action))

    def compute_sequence_loss(
        self, frames: Sequence[tuple[ModelInput, ModelTarget]]
    ) -> tuple[Tensor, dict[str, float]]:
        """Return the mean loss of consecutive frames, with the recurrent state carried through them.

        Raises:
            ValueError: when there are no frames.
        """
        if not frames:
            raise ValueError("a sequence of 0 frames was given, expected at least 1")
        cache = self.new_cache()
        parts = [chunk_losses(self.predict(inputs, cache), target, self.config.action) for inputs, target in frames]
        return total({name: torch.stack([part[name] for part in parts]).mean() for name in parts[0]})

    def _encode_image(self, image: Tensor) -> Tensor:
        """Return the last feature map (B, C, h', w')."""
        if self.maps is not None:
            return functional.avg_pool2d(self.maps.map(image), 2)
        if self.config.shrink > 1:
            image = functional.avg_pool2d(image, self.config.shrink)
        seen: Tensor = self.tower(standardize(image, *HALF)).last_hidden_state
        return seen

    def _encode_text(self, tokens: Tensor) -> Tensor:
        """Return (M, text_width): the LSTM's output at the last word, or a trunk's mean over the words."""
        if self.config.text is not None:
            return mean_over_words(*self.text(tokens))
        words = self.embedding(tokens)
        outputs: Tensor
        with full_precision(words):  # CPUs without bf16 support cannot run an LSTM in it
            outputs, _ = self.text(words)
        last = (tokens != 0).sum(dim=1).clamp(min=1) - 1
        return outputs.gather(1, last[:, None, None].expand(-1, 1, outputs.shape[-1]))[:, 0]

    def _decide(self, inputs: ModelInput, cache: RealTimeCache) -> ModelOutput:
        pairs = (inputs.tokens.shape[0], inputs.tokens.shape[1])
        maps = [self.reduce(self._encode_image(inputs.images[name])).flatten(1) for name in self.config.cameras]
        assert cache.words is not None
        scale, shift = self.film(cache.words).chunk(2, dim=-1)
        seen = repeat_scenes(self.look(torch.cat(maps, dim=1)), pairs[1]) * (1.0 + scale) + shift
        state = repeat_scenes(inputs.state, pairs[1])
        vector = functional.silu(self.enter(torch.cat([functional.silu(seen), state, cache.words], dim=-1)))
        if self.memory is not None:
            cache.state = self.memory(vector, cache.state)
            vector = vector + cache.state
        output: ModelOutput = self.head(vector, pairs)
        return output
