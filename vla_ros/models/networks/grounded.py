"""Grounded language: detect the objects in the images, then resolve which of them an instruction means, if any.

A small detector (learned queries over image tokens, after DETR, Carion et al. 2020) locates objects. Each object
attends to the words (cross-attention from objects to text); the result gives its matching score, which competes with
that of "none of them". So the answer to an instruction can be an object, "not there", or "which of the two".
Instead of this detector, one of Transformers can propose the objects: OWLv2 (Minderer et al. 2023), see `detectors`.

Shapes: B scenes, N instructions for each, M = B * N, K objects, D numbers per token.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from vla_ros.errors import InstructionError
from vla_ros.models.batch import ModelInput, ModelOutput, ModelTarget, check_width
from vla_ros.models.configuration import TransformerConfig
from vla_ros.models.contract import Backbone, VlaModel
from vla_ros.models.detection.detectors import Detections, Owlv2Detector, build_detector
from vla_ros.models.detection.identification import Identification, SceneObject, decide
from vla_ros.models.layers.attention import Attention
from vla_ros.models.layers.encoders import TextEncoder, mean_over_words, repeat_scenes
from vla_ros.models.layers.scene import ProjectedText, cached_shape, named_backbones, named_text_encoder
from vla_ros.models.losses import chunk_losses, mean_where_present, total
from vla_ros.models.networks.regression import ChunkHead
from vla_ros.models.trunk import KIND

SURENESS = 1.0
"""Weight of a slot's confidence, in normalized distance, when objects are assigned to slots (DETR's matching cost)."""


@dataclass(frozen=True)
class GroundedConfig(TransformerConfig):
    """Configuration of the network, and its decision thresholds.

    Attributes:
        objects: Maximum number of objects, K.
        depth: Number of blocks over each image, and of the detector.
        detector: "own" or "owlv2".
        detector_values: Sizes of OWLv2, as `backbones.build_tower` takes them.
        hidden: Width of the head.
        confidence: Minimum confidence of the detector in an object.
        margin: Difference of the matching scores, in logits, below which two objects lead to a clarifying question.
        apart: Distance below which two detections are the same object, normalized.
        vision: Trunk in place of the own detector's image encoder and of `patch`, {"kind": "trunk", sizes}.
        text: Trunk in place of the text encoder, likewise.
    """

    objects: int = 8
    depth: int = 2
    detector: str = "own"
    detector_values: Mapping[str, Any] | None = None
    hidden: int = 256
    confidence: float = 0.5
    margin: float = 0.7
    apart: float = 0.3
    vision: Mapping[str, Any] | None = None
    text: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Matching:
    """Match of each instruction: `scores` (B, N, K), logits of objects, `none` (B, N), logit of "none of them"."""

    scores: Tensor
    none: Tensor

    @property
    def probabilities(self) -> Tensor:
        """(B, N, K + 1) probabilities, the last one of "none of them"."""
        return torch.cat([self.scores, self.none[..., None]], dim=-1).softmax(dim=-1)


class GroundedModel(VlaModel):
    """Detector, matching and chunk head; see the module."""

    Config = GroundedConfig
    LEARNS_PLACES: ClassVar = True
    TINY: ClassVar = {"objects": 6, "width": 64, "depth": 1, "hidden": 128}
    FULL: ClassVar = {  # OWLv2 base, the library's defaults, as the detector
        "cameras": {"front": [960, 960], "wrist": [960, 960]},
        "vocabulary": 4096,
        "state_width": 10,
        "horizon": 16,
        "words": 32,
        "objects": 32,
        "width": 512,
        "heads": 8,
        "depth": 6,
        "hidden": 1024,
        "detector": "owlv2",
        "detector_values": {"vision_config": {"image_size": 960}},
    }
    BACKBONES: ClassVar = {"detector_values": ("owlv2",), "vision": (KIND,), "text": (KIND,)}
    config: GroundedConfig

    def __init__(self, config: GroundedConfig) -> None:
        """Build the network with random weights."""
        super().__init__(config)
        self.detector = build_detector(
            config.detector,
            config.cameras,
            objects=config.objects,
            width=config.width,
            heads=config.heads,
            patch=config.patch,
            depth=config.depth,
            values=config.detector_values or {},
            vision=config.vision,
        )
        self.text: TextEncoder | ProjectedText = (
            TextEncoder(config.vocabulary, config.width, config.words, 1, config.heads)
            if config.text is None
            else ProjectedText(named_text_encoder(config.vocabulary, config.words, config.text), config.width)
        )
        self.object_norm = nn.LayerNorm(config.width)
        self.read = Attention(config.width, config.heads)
        self.score = nn.Sequential(nn.Linear(3 * config.width, config.width), nn.GELU(), nn.Linear(config.width, 1))
        self.none = nn.Linear(config.width, 1)
        told = 2 * config.width + config.state_width + 6
        self.head = ChunkHead(told, config.hidden, config.horizon, config.action, beliefs=False)

    def predict(self, inputs: ModelInput) -> ModelOutput:
        """Predict a chunk and the position of the object for every instruction of every scene."""
        self.check(inputs)
        detections = self.detector(inputs.images)
        return self._decide(inputs, detections, self._match(detections, inputs.tokens))

    def match(self, inputs: ModelInput) -> Matching:
        """Return how well each instruction matches each object."""
        self.check(inputs)
        return self._match(self.detector(inputs.images), inputs.tokens)

    def compute_loss(self, inputs: ModelInput, target: ModelTarget) -> tuple[Tensor, dict[str, float]]:
        """Return the loss: the chunk, the objects' positions (one instruction per object), and the matching.

        Raises:
            ValueError: when `target` is missing.
        """
        self.check(inputs, target)
        if target.target is None:
            raise ValueError("the grounded network is taught where the named object is: `target` is missing")
        detections = self.detector(inputs.images)
        matching = self._match(detections, inputs.tokens)
        slots = assign(detections.places, target.target, target.target_visible, detections.confidence)
        meant = torch.where(target.target_visible > 0, slots, detections.places.shape[1])
        parts = chunk_losses(self._decide(inputs, detections, matching), target, self.config.action)
        parts["match"] = functional.cross_entropy(
            torch.cat([matching.scores, matching.none[..., None]], dim=-1).flatten(0, 1), meant.flatten()
        )
        parts.update(_detection_losses(detections, slots, target))
        return total(parts)

    def own_heads(self, inputs: ModelInput) -> dict[str, Tensor]:
        """Return match probabilities (B, N, K + 1), and the confidence and position of each object."""
        found = self.detector(inputs.images)
        sentences = inputs.tokens.shape[1]
        return {
            "match": self._match(found, inputs.tokens).probabilities,
            "confidence": found.confidence.sigmoid()[:, None].expand(-1, sentences, -1),
            "places": found.places[:, None].expand(-1, sentences, -1, -1),
        }

    def word_attention(self, inputs: ModelInput) -> dict[str, Tensor]:
        """Return camera to (B, N, T, h', w'): the image regions of the objects that attend to each word.

        An object attends to words (cross-attention), and its detector to patches; this is the product of the two.
        Empty for a detector without attention maps.
        """
        self.check(inputs)
        found = self.detector(inputs.images)
        pairs = (inputs.tokens.shape[0], inputs.tokens.shape[1])
        words, real = self.text(inputs.tokens.flatten(0, 1))
        things = self.object_norm(repeat_scenes(found.features, pairs[1]))
        _, weights = self.read(things, words, real[:, None, None, :], look=True)
        assert weights is not None
        attention = weights.transpose(1, 2)  # (M, T, K)
        attention = torch.where(
            real[..., None], attention, 1.0
        )  # no object attends to padding: its map is that of all objects
        attention = attention / attention.sum(dim=-1, keepdim=True)
        return {
            name: (attention @ repeat_scenes(look.flatten(2), pairs[1]))
            .unflatten(-1, look.shape[2:])
            .unflatten(0, pairs)
            for name, look in found.looks.items()
        }

    def backbones(self) -> dict[str, Backbone]:
        """Return the detector, if it is one of Transformers, and the halves of a trunk."""
        if isinstance(self.detector, Owlv2Detector):
            return {"detector_values": Backbone(self.detector.owl), **named_backbones(None, self.text)}
        return named_backbones(self.detector.images, self.text)

    def cached_shape(self, camera: str) -> tuple[int, int, int] | None:
        """Return the shape of the feature map that may replace a camera's image."""
        return cached_shape(self.config, getattr(self.detector, "images", None), camera)

    def detect(self, images: Mapping[str, Tensor]) -> list[list[SceneObject]]:
        """Return the objects in each scene, most confident first; a second detection of an object is dropped."""
        found = self.detector(images)
        scenes = []
        for scene in range(len(found.places)):
            things: list[SceneObject] = []
            for slot in found.confidence[scene].argsort(descending=True).tolist():
                sure, place = float(found.confidence[scene, slot].sigmoid()), found.places[scene, slot]
                if sure < self.config.confidence:
                    break
                if all(float((place - other.place).norm()) >= self.config.apart for other in things):
                    pixels = {name: points[scene, slot] for name, points in found.points.items()}
                    things.append(SceneObject(found.features[scene, slot], place, pixels, sure))
            scenes.append(things)
        return scenes

    def identify_target_object(self, command: Tensor, objects: Sequence[SceneObject]) -> Identification:
        """Return which of `objects` an instruction (T,) of word tokens means: one, none, or several that match alike.

        Raises:
            InstructionError: when the instruction is empty.
            ValueError: when an object's feature has the wrong width.
        """
        if command.ndim != 1 or not bool((command != 0).any()):
            raise InstructionError(f"the command has shape {tuple(command.shape)}, expected (words,) with a word in it")
        if not objects:
            return decide(torch.zeros(0), 0.0, self.config.margin)
        features = torch.stack([thing.feature for thing in objects])
        check_width("the feature of an object", features, self.config.width)
        words, real = self.text(command[None])
        scores, none = self._score(features[None], words, real)
        return decide(scores[0], float(none[0].detach()), self.config.margin)

    def _match(self, detections: Detections, tokens: Tensor) -> Matching:
        pairs = (tokens.shape[0], tokens.shape[1])
        words, real = self.text(tokens.flatten(0, 1))
        scores, none = self._score(repeat_scenes(detections.features, pairs[1]), words, real)
        return Matching(scores.unflatten(0, pairs), none.unflatten(0, pairs))

    def _score(self, features: Tensor, words: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        """Return (M, K) and (M,): scores of objects (M, K, D) for instructions (M, T, D), and of "none of them".

        Objects do not attend to each other here, so that two that look alike always score alike.
        """
        things = self.object_norm(features)
        found, _ = self.read(things, words, real[:, None, None, :])
        sentence = mean_over_words(words, real)
        asked = sentence[:, None].expand_as(found)
        return self.score(torch.cat([things * found, found, asked * things], dim=-1))[..., 0], self.none(sentence)[
            ..., 0
        ]

    def _decide(self, inputs: ModelInput, detections: Detections, matching: Matching) -> ModelOutput:
        pairs = (inputs.tokens.shape[0], inputs.tokens.shape[1])
        probs = matching.scores.softmax(dim=-1)  # (B, N, K): which object, given that it is there
        thing = (probs @ detections.features).flatten(0, 1)
        place = (probs @ detections.places).flatten(0, 1)
        state = repeat_scenes(inputs.state, pairs[1])
        words, real = self.text(inputs.tokens.flatten(0, 1))
        # As in the keypoint network, the offset from the tool to the object is an explicit input.
        told = [thing, mean_over_words(words, real), state, place.detach(), place.detach() - state[:, :3]]
        looks = {
            name: (probs @ look.flatten(2)).unflatten(-1, look.shape[2:]) for name, look in detections.looks.items()
        }
        output: ModelOutput = self.head(torch.cat(told, dim=-1), pairs)
        visible = matching.scores.logsumexp(dim=-1) - matching.none
        return replace(output, target=place.unflatten(0, pairs), target_visible=visible, attention=looks)


def assign(places: Tensor, target: Tensor, visible: Tensor, confidence: Tensor) -> Tensor:
    """Assign a slot to each named object, (B, N) long: nearest pairs first, no slot twice.

    Args:
        places: (B, K, 3), positions predicted by the detector.
        target: (B, N, 3), true positions.
        visible: (B, N), 1 where there is an object; the others get slot 0.
        confidence: (B, K) logits; a confident slot may be `SURENESS` farther away than an unconfident one. Otherwise
            slots that still predict the same position would take turns, and none would ever become confident.

    Raises:
        ValueError: when there are more objects than slots.
    """
    if int(visible.sum(dim=1).max()) > places.shape[1]:
        raise ValueError(f"{int(visible.sum(dim=1).max())} things in a scene, expected at most {places.shape[1]}")
    with torch.no_grad():
        cost = (target[:, :, None] - places[:, None]).norm(dim=-1) - SURENESS * confidence.sigmoid()[:, None]
        cost = cost.masked_fill(visible[..., None] <= 0, float("inf")).float()
        slots = torch.zeros(visible.shape, dtype=torch.long, device=places.device)
        scene = torch.arange(len(places), device=places.device)
        for _ in range(min(cost.shape[1:])):
            best, index = cost.flatten(1).min(dim=1)
            thing, slot = index // cost.shape[2], index % cost.shape[2]
            slots[scene, thing] = torch.where(best.isfinite(), slot, slots[scene, thing])
            cost[scene, thing] = float("inf")
            cost[scene, :, slot] = float("inf")
    return slots


def _detection_losses(detections: Detections, slots: Tensor, target: ModelTarget) -> dict[str, Tensor]:
    """Return the losses of the slots: positions of their objects, in space and in each image, and confidence."""
    there = target.target_visible
    assert target.target is not None
    places = detections.places.gather(1, slots[..., None].expand(-1, -1, 3))
    nothing = torch.zeros_like(detections.confidence)
    held = nothing.scatter_reduce(1, slots, there.to(nothing), reduce="amax")  # precision differs under autocast
    parts = {
        "place": mean_where_present(
            functional.smooth_l1_loss(places, target.target, reduction="none", beta=0.1), there
        ),
        "confidence": functional.binary_cross_entropy_with_logits(detections.confidence, held),
    }
    for name, points in detections.points.items():
        if name in target.pixels:
            pixels = target.pixels[name]
            visible = there * torch.isfinite(pixels).all(dim=-1)
            predicted = points.gather(1, slots[..., None].expand(-1, -1, 2))
            wrong = functional.smooth_l1_loss(predicted, torch.nan_to_num(pixels), reduction="none", beta=0.05)
            parts[f"point_{name}"] = 2.0 * mean_where_present(wrong, visible)
    return parts
