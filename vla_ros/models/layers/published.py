"""Published backbones inside the networks of this package: image encoders, text encoders, and a language model.

Each replaces a part that a network would otherwise build itself, and has the same interface. They are built from plain
values with random weights; `load_published` loads the weights that a user names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from vla_ros.errors import ContractError
from vla_ros.models.configuration import Sizes
from vla_ros.models.contract import Backbone, VlaModel
from vla_ros.models.layers.attention import causal_mask
from vla_ros.models.layers.backbones import (
    CLIP,
    HALF,
    IMAGENET,
    build_tower,
    find_kind,
    load_weights,
    padding_mask,
    read_values,
    read_weights,
    standardize,
    transformers,
)
from vla_ros.models.layers.encoders import ImageTokens
from vla_ros.models.trunk import KIND, describe_trunk, trunk_folder

IMAGE_STATISTICS = {"clip_vision": CLIP, "siglip_vision": HALF, "dinov2": IMAGENET, "vit": HALF}
"""Image statistics with which each vision transformer was trained."""
IMAGE_KINDS = tuple(IMAGE_STATISTICS)
TEXT_KINDS = ("bert", "distilbert", "clip_text")
LANGUAGE_KINDS = ("llama", "qwen2", "gpt2")

TABLES = {
    "bert": "word_embeddings.weight",
    "distilbert": "word_embeddings.weight",
    "clip_text": "token_embedding.weight",
    "clip": "token_embedding.weight",
    "llama": "embed_tokens.weight",
    "qwen2": "embed_tokens.weight",
    "gpt2": "wte.weight",
}
"""Suffix of the name of each network's word embedding."""

FIRST_WORD = 2
"""Token id of the first word of a vocabulary: 0 is padding, 1 unknown."""


def split_kind(line: str, values: Mapping[str, Any], kinds: tuple[str, ...]) -> tuple[str, dict[str, Any]]:
    """Split a configuration field {"kind": ..., sizes} into the kind and the sizes.

    Raises:
        ContractError: when the kind is missing or not one of `kinds`.
    """
    kind = values.get("kind")
    if kind not in kinds:
        raise ContractError(f"{line}: kind is {kind!r}, expected one of {', '.join(kinds)}")
    return str(kind), {name: value for name, value in values.items() if name != "kind"}


class PublishedImageEncoder(ImageTokens):
    """Vision transformer of Transformers, for images of any size: it interpolates its position embeddings."""

    def __init__(self, cameras: Sizes, values: Mapping[str, Any]) -> None:
        """Build with random weights from {"kind": ..., sizes}."""
        kind, sizes = split_kind("vision", values, IMAGE_KINDS)
        if kind == "siglip_vision":
            sizes["vision_use_head"] = False  # its pooled feature is not needed, only the patches
        tower = build_tower(kind, sizes)
        super().__init__(cameras, int(tower.config.hidden_size), int(tower.config.patch_size))
        self.tower, self._statistics = tower, IMAGE_STATISTICS[kind]
        self.norm = nn.LayerNorm(self.width)
        self._stretches = {} if kind == "dinov2" else {"interpolate_pos_encoding": True}  # DINOv2 always interpolates

    def see(self, camera: str, image: Tensor) -> Tensor:
        """Encode one camera's images (B, 3, h, w), 0 to 1, as (B, h' * w', D)."""
        pixels = standardize(image, *self._statistics)
        seen = self.tower(pixel_values=pixels, **self._stretches).last_hidden_state
        rows, columns = self.grids[camera]
        features: Tensor = self.norm(seen[:, -rows * columns :])  # special tokens of the tower come first
        return features


class PublishedTextEncoder(nn.Module):
    """Text encoder of Transformers, over the words of this package's tokenizer.

    Attributes:
        width: Size of a token.
    """

    def __init__(self, vocabulary: int, words: int, values: Mapping[str, Any]) -> None:
        """Build with random weights from {"kind": ..., sizes}, for instructions of at most `words` words.

        Raises:
            ContractError: when it has fewer than `words` positions.
        """
        super().__init__()
        self.kind, sizes = split_kind("text", values, TEXT_KINDS)
        self.tower = build_tower(self.kind, {**sizes, "vocab_size": vocabulary})
        self.width = int(self.tower.config.hidden_size)
        places = int(self.tower.config.max_position_embeddings)
        if words > places:
            raise ContractError(f"words is {words}, '{self.kind}' of this size reads at most {places}")

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return features (M, T, D) of tokens (M, T), 0 at padding, and the word mask, (M, T) bool."""
        real = tokens != 0
        features = self.tower(input_ids=tokens, attention_mask=padding_mask(tokens)).last_hidden_state
        return features * real[..., None], real

    def backbone(self) -> Backbone:
        """Return the part into which published weights are loaded."""
        return Backbone(self.tower, (TABLES[self.kind],), self.tower.get_input_embeddings())


class PublishedTransformer(nn.Module):
    """Language model of Transformers in place of `CausalTransformer`: same masks, cache and attention weights.

    Its word embedding is not used: the stream has its own, with room for actions.

    Attributes:
        width: Size of a token.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        """Build with random weights from {"kind": ..., sizes}."""
        super().__init__()
        self.kind, sizes = split_kind("language", values, LANGUAGE_KINDS)
        self.tower = build_tower(self.kind, {**sizes, "vocab_size": 1})
        self.tower.get_input_embeddings().requires_grad_(False)
        self.width = int(self.tower.config.hidden_size)

    def new_cache(self) -> Any:  # noqa: ANN401 (Transformers is not imported here)
        """Return an empty cache."""
        return transformers().DynamicCache(config=self.tower.config)

    def forward(
        self,
        tokens: Tensor,
        real: Tensor,
        cache: Any = None,  # noqa: ANN401 (of Transformers, which is not imported here)
        look: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Return what `CausalTransformer.forward` does; padding takes no position, so its amount has no effect."""
        allowed = causal_mask(tokens.shape[1], real.shape[1], tokens.device) & real[:, None, None, :]
        mask = torch.zeros(allowed.shape, dtype=tokens.dtype, device=tokens.device)
        mask = mask.masked_fill(~allowed, torch.finfo(tokens.dtype).min)
        places = (real.long().cumsum(dim=-1) - 1).clamp(min=0)[:, -tokens.shape[1] :]
        self.tower.set_attn_implementation("eager" if look else "sdpa")  # only "eager" returns its weights
        read = self.tower(
            inputs_embeds=tokens,
            attention_mask=mask,
            position_ids=places,
            past_key_values=cache,
            use_cache=cache is not None,
            output_attentions=look,
        )
        if not look:
            return read.last_hidden_state, None
        return read.last_hidden_state, torch.stack([weights.mean(dim=1) for weights in read.attentions]).mean(dim=0)

    def backbone(self, words: nn.Embedding) -> Backbone:
        """Return the part into which published weights are loaded; `words` is the stream's own word embedding."""
        return Backbone(self.tower, (TABLES[self.kind],), words)


def name_sources(model: type[VlaModel], values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Replace every backbone given as a hub identifier or a folder by its kind and sizes.

    Args:
        model: Class of the network.
        values: Fields of its configuration; a string in a field of `BACKBONES` names a published network.

    Returns:
        Plain values from which a network can be built offline, and the sources by field.

    Raises:
        ContractError: when a source cannot be obtained or is of another kind.
    """
    plain, sources = dict(values), {}
    for line, kinds in model.BACKBONES.items():
        source = values.get(line)
        if not isinstance(source, str):
            continue
        if KIND in kinds and (folder := trunk_folder(source)) is not None:
            plain[line], sources[line] = {"kind": KIND, **asdict(describe_trunk(folder).config)}, source
            continue
        published = tuple(kind for kind in kinds if kind != KIND)
        if not published:
            raise ContractError(
                f"{line}: '{source}' is no folder with a trunk; train one with config/training/trunk.yaml"
            )
        kind = find_kind(source, published)
        plain[line] = {**({"kind": kind} if len(published) > 1 else {}), **read_values(kind, source)}
        sources[line] = source
    return plain, sources


def load_published(network: VlaModel, sources: Mapping[str, str], words: Sequence[str] = ()) -> dict[str, list[str]]:
    """Load the published weights of `sources`, as returned by `name_sources`, into the backbones of `network`.

    A word embedding has the size of this package's vocabulary. Each of `words` is initialized to the mean of its pieces
    in the published tokenizer, if the source has one that knows them; else it stays random.

    Returns:
        By field, the weights and the words that stayed random.

    Raises:
        ContractError: when weights cannot be obtained or do not fit.
    """
    parts, kept = network.backbones(), {}
    for line, source in sources.items():
        part = parts[line]
        if part.owner is not None and (folder := trunk_folder(source)) is not None:
            kept[line] = part.owner.load_source(folder, words)
            continue
        theirs = read_weights(part.tower, source)
        kept[line] = load_weights(part.tower, source, part.may_differ, theirs)
        if part.words is None or not words:
            continue
        table = next((n for n in theirs if n.endswith(tuple(TABLES.values()))), None)
        seeded = [] if table is None else seed_words(part.words, source, theirs[table], words)
        if seeded:
            kept[line] = [name for name in kept[line] if not name.endswith(tuple(TABLES.values()))]
            kept[line] += [f"the word '{word}'" for word in words if word not in seeded]
    return kept


def seed_words(table: nn.Embedding, source: str, theirs: Tensor, words: Sequence[str]) -> list[str]:
    """Set each word of `table` to the mean of `theirs` (pieces, D) over its pieces; return the known words."""
    try:
        tokenizer = transformers().AutoTokenizer.from_pretrained(source)
    except Exception:  # a folder may lack a tokenizer; Transformers has no single error for that
        return []
    seeded = []
    with torch.no_grad():
        for index, word in enumerate(words):
            pieces = tokenizer(word, add_special_tokens=False)["input_ids"]
            # For a folder without a tokenizer, Transformers may make an empty one, to which every piece is unknown.
            if pieces and tokenizer.unk_token_id not in pieces and max(pieces) < len(theirs):
                table.weight[FIRST_WORD + index] = theirs[pieces].mean(dim=0).to(table.weight)
                seeded.append(word)
    return seeded
