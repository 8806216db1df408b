"""Object detectors with one interface: a small one of this package, and OWLv2 from Transformers.

Shapes: B scenes, K objects, D numbers per feature.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from vla_ros.errors import ContractError
from vla_ros.models.configuration import Sizes
from vla_ros.models.layers.attention import Block
from vla_ros.models.layers.backbones import CLIP, build_tower, padding_mask, standardize
from vla_ros.models.layers.encoders import ImageEncoder, learned_positions
from vla_ros.models.layers.scene import named_image_encoder

DETECTORS = ("own", "owlv2")


@dataclass(frozen=True)
class Detections:
    """Output of a detector.

    Attributes:
        features: (B, K, D), visual feature of each object.
        places: (B, K, 3), its position, normalized.
        confidence: (B, K), logits that it is an object at all.
        points: Camera to (B, K, 2), its position in the image, 0 to 1.
        looks: Camera to (B, K, h', w') attention weights of the detector, which sum to 1; may be empty.
    """

    features: Tensor
    places: Tensor
    confidence: Tensor
    points: Mapping[str, Tensor]
    looks: Mapping[str, Tensor]


def build_detector(
    kind: str,
    cameras: Sizes,
    *,
    objects: int,
    width: int,
    heads: int,
    patch: int,
    depth: int,
    values: Mapping[str, Any],
    vision: Mapping[str, Any] | None = None,
) -> SlotDetector | Owlv2Detector:
    """Build the detector `kind` with random weights; it maps images (camera to (B, 3, h, w)) to `Detections`.

    Raises:
        ContractError: for an unknown kind or invalid sizes.
    """
    if objects < 1:
        raise ContractError(f"objects is {objects}, expected at least 1")
    if kind == "own":
        return SlotDetector(cameras, objects, width, heads, patch, depth, vision)
    if kind == "owlv2":
        return Owlv2Detector(cameras, objects, width, values)
    raise ContractError(f"detector '{kind}', expected one of {', '.join(DETECTORS)}")


class SlotDetector(nn.Module):
    """K learned queries that attend to all image tokens and to each other; each becomes an object or none."""

    def __init__(
        self,
        cameras: Sizes,
        objects: int,
        width: int,
        heads: int,
        patch: int,
        depth: int,
        vision: Mapping[str, Any] | None = None,
    ) -> None:
        """Build with `depth` blocks over each image, or the encoder `vision`, and `depth` (at least 1) over queries."""
        super().__init__()
        self.images = (
            ImageEncoder(cameras, width, patch, depth, heads)
            if vision is None
            else named_image_encoder(cameras, vision)
        )
        self.image_projection = nn.Identity() if self.images.width == width else nn.Linear(self.images.width, width)
        self.queries = learned_positions(objects, width)
        nn.init.normal_(self.queries)  # distinct from the start, so that they find different objects
        self.blocks = nn.ModuleList(Block(width, heads, cross=True) for _ in range(max(1, depth)))
        self.norm = nn.LayerNorm(width)
        self.place = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, 3))
        self.point = nn.ModuleDict(
            {n: nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, 2)) for n in cameras}
        )
        self.confidence = nn.Linear(width, 1)

    def forward(self, images: Mapping[str, Tensor]) -> Detections:
        """Detect objects in images, camera to (B, 3, h, w), 0 to 1."""
        seen = self.image_projection(self.images(images))
        things = self.queries.expand(len(seen), -1, -1)
        weights = None
        for block in self.blocks:
            things, weights = block(things, context=seen, look=True)
        things = self.norm(things)
        return Detections(
            things,
            self.place(things),
            self.confidence(things)[..., 0],
            {name: layer(things).sigmoid() for name, layer in self.point.items()},
            {} if weights is None else self.images.looks(weights),
        )


@dataclass(frozen=True)
class Box:
    """Object found by name: (left, top, right, bottom) from 0 to 1, index of the name, and score from 0 to 1."""

    corners: tuple[float, float, float, float]
    name: int
    score: float


class Owlv2Detector(nn.Module):
    """OWLv2, as the detector of the grounded network (its most likely boxes are the objects), and queried by name.

    It sees the first camera. Images are padded with gray, at the bottom or on the right, to the square it expects.
    """

    def __init__(self, cameras: Sizes, objects: int, width: int, values: Mapping[str, Any]) -> None:
        """Build with random weights; `backbones.load_weights(detector.owl, ...)` loads published ones."""
        super().__init__()
        self.camera = next(iter(cameras))
        self.owl = build_tower("owlv2", values)
        vision = self.owl.config.vision_config
        self.side, self.objects = int(vision.image_size), objects
        patches = (self.side // int(vision.patch_size)) ** 2
        if objects > patches:
            raise ContractError(f"objects is {objects}, OWLv2 of this size proposes {patches}")
        self.feature = nn.Linear(int(vision.hidden_size), width)
        self.box = nn.Linear(4, width)
        self.norm = nn.LayerNorm(width)
        self.place = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, 3))

    def forward(self, images: Mapping[str, Tensor]) -> Detections:
        """Return the K boxes most likely to be objects, whatever their names."""
        image = images[self.camera]
        seen, grid = self._maps(self._square(image))
        boxes = self.owl.box_predictor(seen, grid)
        confidence = self.owl.objectness_predictor(seen)
        best = confidence.topk(self.objects, dim=1).indices
        boxes = boxes.gather(1, best[..., None].expand(-1, -1, 4))
        seen = seen.gather(1, best[..., None].expand(-1, -1, seen.shape[-1]))
        things = self.norm(self.feature(seen) + self.box(boxes))
        points = boxes[..., :2] * self._stretch(image)
        return Detections(things, self.place(things), confidence.gather(1, best), {self.camera: points}, {})

    def find(self, image: Tensor, names: Tensor, least: float) -> list[list[Box]]:
        """Return, for each image (B, 3, h, w), the boxes of objects named one of `names` (Q, T), best score first.

        The names are tokens of OWLv2's own tokenizer, 0 for padding. Boxes that score below `least` are left out.
        """
        rows = len(image)
        output = self.owl(
            input_ids=names.repeat(rows, 1),
            attention_mask=padding_mask(names).repeat(rows, 1),
            pixel_values=self._square(image),
        )
        scores, which = output.logits.sigmoid().max(dim=-1)
        centre, half = output.pred_boxes[..., :2], output.pred_boxes[..., 2:] / 2.0
        stretch = self._stretch(image).repeat(2)
        corners = torch.cat([centre - half, centre + half], dim=-1) * stretch
        return [
            [
                Box(tuple(corners[row, i].clamp(0.0, 1.0).tolist()), int(which[row, i]), float(scores[row, i]))
                for i in scores[row].argsort(descending=True).tolist()
                if float(scores[row, i]) >= least
            ]
            for row in range(rows)
        ]

    def _maps(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return features (B, P, D), and the feature map (B, h', w', D) that they come from."""
        grid = self.owl.image_embedder(pixel_values=image)[0]
        return grid.flatten(1, 2), grid

    def _square(self, image: Tensor) -> Tensor:
        """Return the image as OWLv2 expects it: padded to a square, resized, standardized."""
        height, width = image.shape[-2:]
        longest = max(height, width)
        padded = functional.pad(image, (0, longest - width, 0, longest - height), value=0.5)
        resized = functional.interpolate(padded, (self.side, self.side), mode="bilinear", antialias=True)
        return standardize(resized, *CLIP)

    @staticmethod
    def _stretch(image: Tensor) -> Tensor:
        """Return the scale (2,) from positions in the padded square to positions in the image."""
        height, width = image.shape[-2:]
        longest = max(height, width)
        return image.new_tensor([longest / width, longest / height])
