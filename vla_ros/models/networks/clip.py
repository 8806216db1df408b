"""CLIP-VLA: the towers of CLIP (Radford et al. 2021, arXiv 2103.00020), projections, and a decoder of the chunk.

Images and instructions share one embedding space, so that `compute_similarity` measures how well they match, and the
same measure between an instruction and single patches locates it in the image (as MaskCLIP, Zhou et al. 2022).

The words are those of this package's tokenizer. CLIP takes the feature of a text at its end token, which is appended
here: token `vocabulary` of a text tower with `vocabulary` + 1 tokens. Published text weights are loaded except for
their word embedding.
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
from vla_ros.models.configuration import ReadingConfig
from vla_ros.models.contract import Backbone, VlaModel
from vla_ros.models.layers.attention import Block
from vla_ros.models.layers.backbones import CLIP, build_tower, standardize
from vla_ros.models.layers.encoders import learned_positions, repeat_scenes
from vla_ros.models.losses import chunk_losses, total

_TINY_TOWER = {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 1, "num_attention_heads": 4}


@dataclass(frozen=True)
class ClipConfig(ReadingConfig):
    """Configuration of the network; `words` is at most 76 with published weights.

    Attributes:
        towers: Sizes of CLIP, as `backbones.build_tower` takes them: `vision_config`, `text_config`, `projection_dim`.
        width: Size of a token of the decoder.
        heads: Attention heads of the decoder.
        layers: Number of blocks of the decoder.
    """

    towers: Mapping[str, Any] | None = None
    width: int = 256
    heads: int = 8
    layers: int = 4


@dataclass(frozen=True)
class _Text:
    words: Tensor  # (M, T + 1, D)
    real: Tensor  # (M, T + 1) bool
    feature: Tensor  # (M, projection), unit


class ClipModel(VlaModel):
    """CLIP towers with a chunk decoder; see the module."""

    Config = ClipConfig
    TINY: ClassVar = {
        "towers": {
            "vision_config": {**_TINY_TOWER, "patch_size": 32, "image_size": 96},
            "text_config": _TINY_TOWER,
            "projection_dim": 32,
        },
        "width": 64,
        "heads": 4,
        "layers": 1,
    }
    FULL: ClassVar = {  # CLIP ViT-B/32, the library's defaults
        "cameras": {"front": [224, 224], "wrist": [224, 224]},
        "vocabulary": 49407,
        "state_width": 10,
        "horizon": 16,
        "words": 76,
        "towers": {},
        "width": 512,
        "heads": 8,
        "layers": 6,
    }
    BACKBONES: ClassVar = {"towers": ("clip",)}
    config: ClipConfig

    def __init__(self, config: ClipConfig) -> None:
        """Build the network with random weights."""
        super().__init__(config)
        self.clip = build_tower("clip", _tower_values(config))
        vision, text = self.clip.config.vision_config, self.clip.config.text_config
        side = int(vision.patch_size)
        for name, size in config.cameras.items():
            if any(pixels % side or pixels < side for pixels in size):
                raise ContractError(f"camera '{name}' is {size}, expected multiples of CLIP's patch, {side}")
        self.grids = {name: (h // side, w // side) for name, (h, w) in config.cameras.items()}
        self.project_vision = nn.Linear(vision.hidden_size, config.width)
        self.project_text = nn.Linear(text.hidden_size, config.width)
        self.project_pair = nn.Linear(2 * self.clip.config.projection_dim, config.width)
        self.state = nn.Sequential(
            nn.Linear(config.state_width, config.width), nn.GELU(), nn.Linear(config.width, config.width)
        )
        self.cameras = learned_positions(len(config.cameras), config.width)
        self.rows = learned_positions(config.horizon + 1, config.width)
        self.decoder = nn.ModuleList(Block(config.width, config.heads, cross=True) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width)
        self.chunk = nn.Linear(config.width, config.action.width)
        self.beliefs = nn.Linear(config.width, 4)

    def backbones(self) -> dict[str, Backbone]:
        """Return the towers; the word embedding and, unless `words` is 76, the positions keep their own weights."""
        own = ("text_model.embeddings.token_embedding.weight", "text_model.embeddings.position_embedding.weight")
        return {"towers": Backbone(self.clip, own, self.clip.text_model.embeddings.token_embedding)}

    def encode_images(self, images: Tensor) -> Tensor:
        """Return unit features (B, projection) of images (B, 3, h, w), 0 to 1."""
        return functional.normalize(self.clip.visual_projection(self._encode_image(images).pooler_output), dim=-1)

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Return unit features (M, projection) of instructions (M, T), 0 for padding."""
        return self._encode_text(tokens).feature

    def compute_similarity(self, images: Tensor, tokens: Tensor) -> Tensor:
        """Return (B, M), the match of each image (B, 3, h, w) and each instruction (M, T): CLIP's scaled cosine."""
        scale: Tensor = self.clip.logit_scale.exp()
        return scale * self.encode_images(images) @ self.encode_text(tokens).T

    def predict(self, inputs: ModelInput) -> ModelOutput:
        """Predict a chunk for every instruction of every scene; images are encoded once per scene."""
        self.check(inputs)
        config = self.config
        pairs = (inputs.tokens.shape[0], inputs.tokens.shape[1])
        text = self._encode_text(inputs.tokens.flatten(0, 1))
        memory, attention, seen_features = [], {}, []
        for index, name in enumerate(config.cameras):
            seen = self._encode_image(inputs.images[name])
            memory.append(repeat_scenes(self.project_vision(seen.last_hidden_state) + self.cameras[index], pairs[1]))
            feature = functional.normalize(self.clip.visual_projection(seen.pooler_output), dim=-1)
            seen_features.append(repeat_scenes(feature, pairs[1]))
            attention[name] = self._where(seen.last_hidden_state, text.feature, pairs, self.grids[name])
        pair = self.project_pair(torch.cat([torch.stack(seen_features).mean(dim=0), text.feature], dim=-1))[:, None]
        state = repeat_scenes(self.state(inputs.state), pairs[1])[:, None]
        memory += [self.project_text(text.words), pair, state]
        real = torch.ones(*pair.shape[:1], sum(m.shape[1] for m in memory), dtype=torch.bool, device=pair.device)
        real[:, -2 - text.real.shape[1] : -2] = text.real
        tokens = self.rows + pair + state
        for block in self.decoder:
            tokens, _ = block(tokens, context=torch.cat(memory, dim=1), context_mask=real[:, None, None, :])
        return self._output(self.norm(tokens), pairs, attention)

    def compute_loss(self, inputs: ModelInput, target: ModelTarget) -> tuple[Tensor, dict[str, float]]:
        """Return the loss of the chunk, if the object is there, and of the object's position and presence."""
        self.check(inputs, target)
        return total(chunk_losses(self.predict(inputs), target, self.config.action))

    def word_attention(self, inputs: ModelInput) -> dict[str, Tensor]:
        """Return camera to (B, N, T, h', w'): the softmax of the scaled cosine between each word and every patch.

        A word's feature represents the instruction up to it, since CLIP's text tower is causal.
        """
        self.check(inputs)
        pairs = (inputs.tokens.shape[0], inputs.tokens.shape[1])
        words = functional.normalize(
            self.clip.text_projection(self._encode_text(inputs.tokens.flatten(0, 1)).words), dim=-1
        )
        looks = {}
        for name, grid in self.grids.items():
            patches = self._patches(self._encode_image(inputs.images[name]).last_hidden_state, pairs[1])
            cosine = words[:, : inputs.tokens.shape[2]] @ patches.transpose(1, 2)
            weights = (self.clip.logit_scale.exp() * cosine).softmax(dim=-1)
            looks[name] = weights.unflatten(-1, grid).unflatten(0, pairs)
        return looks

    def own_heads(self, inputs: ModelInput) -> dict[str, Tensor]:
        """Return CLIP's scaled cosine of each camera's images and each instruction, as "similarity_<camera>"."""
        scenes, sentences = inputs.tokens.shape[:2]
        text = self._encode_text(inputs.tokens.flatten(0, 1)).feature.unflatten(0, (scenes, sentences))
        scale = self.clip.logit_scale.exp()
        return {
            f"similarity_{name}": scale * (text @ self.encode_images(inputs.images[name])[..., None])[..., 0]
            for name in self.grids
        }

    def _output(self, tokens: Tensor, pairs: tuple[int, int], attention: dict[str, Tensor]) -> ModelOutput:
        chunk = self.chunk(tokens[:, :-1]).unflatten(0, pairs)
        continuous, binary = chunk.tensor_split([self.config.action.continuous], dim=-1)
        beliefs = self.beliefs(tokens[:, -1]).unflatten(0, pairs)
        return ModelOutput(
            continuous,
            binary,
            beliefs[..., :3],
            beliefs[..., 3],
            {name: look.unflatten(0, pairs) for name, look in attention.items()},
        )

    def _encode_image(self, images: Tensor) -> Any:  # noqa: ANN401 (an output of Transformers)
        return self.clip.vision_model(standardize(images, *CLIP), interpolate_pos_encoding=True)

    def _encode_text(self, tokens: Tensor) -> _Text:
        ended = with_end(tokens, self.config.vocabulary)
        read = self.clip.text_model(ended)  # causal, so that padding after the end token affects no word
        feature = functional.normalize(self.clip.text_projection(read.pooler_output), dim=-1)
        return _Text(read.last_hidden_state, ended != 0, feature)

    def _where(self, seen: Tensor, sentence: Tensor, pairs: tuple[int, int], grid: tuple[int, int]) -> Tensor:
        """Return (M, h', w'), the softmax of the scaled cosine between an instruction and every patch."""
        patches = self._patches(seen, pairs[1])
        cosine = (patches @ sentence[..., None])[..., 0]
        look: Tensor = (self.clip.logit_scale.exp() * cosine).softmax(dim=-1).unflatten(-1, grid)
        return look

    def _patches(self, seen: Tensor, sentences: int) -> Tensor:
        """Return the unit features (M, P, projection) of the patches among the vision tower's tokens."""
        patches = self.clip.visual_projection(self.clip.vision_model.post_layernorm(seen[:, 1:]))
        return repeat_scenes(functional.normalize(patches, dim=-1), sentences)


def with_end(tokens: Tensor, end: int) -> Tensor:
    """Return (M, T + 1): instructions (M, T) with the token `end` after their last word."""
    longer = functional.pad(tokens, (0, 1))
    places = (tokens != 0).sum(dim=1, keepdim=True)
    return longer.scatter(1, places, end)


def _tower_values(config: ClipConfig) -> dict[str, Any]:
    towers = dict(config.towers or {})
    text = {
        **towers.get("text_config", {}),
        "vocab_size": config.vocabulary + 1,
        "eos_token_id": config.vocabulary,
        "bos_token_id": None,
        "pad_token_id": 0,
        "max_position_embeddings": config.words + 1,
    }
    projection = int(towers.get("projection_dim", 512))
    vision = dict(towers.get("vision_config", {}))
    return {
        **towers,
        "projection_dim": projection,
        "text_config": {**text, "projection_dim": projection},
        "vision_config": {**vision, "projection_dim": projection},
    }
