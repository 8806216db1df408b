"""Encoders from Hugging Face Transformers: built from plain values with random weights, pretrained ones on request.

Building one never reads weights and never opens a connection, so a checkpoint of this package loads anywhere:

    values = read_values("clip", "openai/clip-vit-base-patch32")     # its configuration, from the hub or a local folder
    tower = build_tower("clip", values)                              # random weights
    load_weights(tower, "openai/clip-vit-base-patch32")              # its weights, at the user's request
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from vla_ros.errors import ContractError
from vla_ros.extras import advice

INSTALL = advice("transformers")


@dataclass(frozen=True)
class Tower:
    """A network class of Transformers.

    Attributes:
        sizes: Name of its configuration class.
        network: Name of the network class.
        options: Further constructor arguments of the network.
        model_types: Its `model_type` in published configurations, if other than its name in `TOWERS`.
        unused: Prefixes of weights that no network of this package uses; they are not trained.
    """

    sizes: str
    network: str
    options: Mapping[str, Any] = field(default_factory=dict)
    model_types: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()


_NO_POOLER = {"add_pooling_layer": False}

TOWERS = {
    "clip": Tower("CLIPConfig", "CLIPModel"),
    "distilbert": Tower("DistilBertConfig", "DistilBertModel"),
    "efficientnet": Tower("EfficientNetConfig", "EfficientNetModel"),
    "mobilenet_v2": Tower("MobileNetV2Config", "MobileNetV2Model"),
    "owlv2": Tower("Owlv2Config", "Owlv2ForObjectDetection"),
    "clip_vision": Tower(
        "CLIPVisionConfig",
        "CLIPVisionModel",
        model_types=("clip_vision_model", "clip"),
        unused=("post_layernorm", "vision_model.post_layernorm"),
    ),
    "siglip_vision": Tower("SiglipVisionConfig", "SiglipVisionModel", model_types=("siglip_vision_model", "siglip")),
    "dinov2": Tower("Dinov2Config", "Dinov2Model", unused=("embeddings.mask_token",)),
    "vit": Tower("ViTConfig", "ViTModel", options=_NO_POOLER),
    "bert": Tower("BertConfig", "BertModel", options=_NO_POOLER),
    "clip_text": Tower("CLIPTextConfig", "CLIPTextModel", model_types=("clip_text_model", "clip")),
    "gpt2": Tower("GPT2Config", "GPT2Model"),
    "llama": Tower("LlamaConfig", "LlamaModel"),
    "qwen2": Tower("Qwen2Config", "Qwen2Model"),
}
"""Name to network class of Transformers."""

NOT_SIZES = ("transformers_version", "architectures", "dtype", "torch_dtype", "_name_or_path")
"""Keys of a published configuration that do not affect the network's architecture."""

NORMS = ("group", "batch", "frozen")
GROUP_WIDTH = 8
"""Channels per group of a group normalization, where the width is divisible by it."""


def transformers() -> ModuleType:
    """Import and return Transformers.

    Raises:
        ContractError: with the install command, when it is missing.
    """
    try:
        import transformers as library
    except ImportError as error:
        raise ContractError(
            f"this model is built from Transformers, which cannot be imported ({error}): {INSTALL}"
        ) from error
    return library


def _classes(kind: str) -> tuple[Any, Any]:
    if kind not in TOWERS:
        raise ContractError(f"no backbone '{kind}', expected one of {', '.join(TOWERS)}")
    library = transformers()
    return getattr(library, TOWERS[kind].sizes), getattr(library, TOWERS[kind].network)


def build_tower(kind: str, values: Mapping[str, Any]) -> Any:  # noqa: ANN401 (Transformers is not imported here)
    """Build the network `kind` with random weights, configured by `values`; missing values take library defaults.

    Raises:
        ContractError: when Transformers is missing, `kind` is unknown, or the values are invalid.
    """
    sizes, network = _classes(kind)
    try:
        known = set(sizes().to_dict()) | set(sizes.attribute_map)
        if unknown := sorted(set(values) - known):
            raise ContractError(f"backbone '{kind}' has no value {unknown}, it has: {', '.join(sorted(known))}")
        with _quiet():
            tower = network(sizes(**values), **TOWERS[kind].options)
    except (TypeError, ValueError, AssertionError, ZeroDivisionError) as error:
        raise ContractError(f"backbone '{kind}' cannot be built from {dict(values)}: {error}") from error
    for name, weight in tower.named_parameters():
        if name.startswith(TOWERS[kind].unused or ("\0",)):
            weight.requires_grad_(False)
    return tower


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the library's warning about special tokens outside of this package's own vocabularies."""
    logger = logging.getLogger("transformers")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def find_kind(source: str, kinds: tuple[str, ...]) -> str:
    """Return which of `kinds` the published network `source` is.

    Args:
        source: Identifier on the hub, whose small configuration is downloaded, or a local folder.
        kinds: Names in `TOWERS`.

    Raises:
        ContractError: when it is unavailable, or none of them.
    """
    library = transformers()
    try:
        found = str(library.AutoConfig.from_pretrained(source).model_type)
    except Exception as error:  # the hub, the network and the files each raise their own errors
        raise _unreachable(" or ".join(kinds), source, error) from error
    for kind in kinds:
        if found in (kind, *TOWERS[kind].model_types):
            return kind
    raise ContractError(f"'{source}' is a network of type '{found}', expected one of {', '.join(kinds)}")


def read_values(kind: str, source: str) -> dict[str, Any]:
    """Return the configuration of a published network as plain values, for `build_tower`.

    Args:
        kind: Name in `TOWERS`.
        source: Identifier on the hub, whose small configuration is downloaded, or a local folder.

    Raises:
        ContractError: when it is unavailable, with what to do.
    """
    sizes, _ = _classes(kind)
    try:
        found = sizes.from_pretrained(source)
    except Exception as error:  # as above
        raise _unreachable(kind, source, error) from error
    return {name: value for name, value in found.to_diff_dict().items() if name not in NOT_SIZES}


def read_weights(tower: nn.Module, source: str) -> dict[str, Tensor]:
    """Return the pretrained weights of `source`, a hub identifier (downloaded) or a local folder, by `tower`'s names.

    Raises:
        ContractError: when they are unavailable, with what to do.
    """
    kind = type(tower)
    try:
        with _quiet():
            # Safetensors only: the older format is a pickle.
            found = kind.from_pretrained(source, use_safetensors=True)  # type: ignore[attr-defined]
    except Exception as error:  # as above
        raise _unreachable(kind.__name__, source, error) from error
    return dict(found.state_dict())


def load_weights(
    tower: nn.Module, source: str, may_differ: tuple[str, ...] = (), theirs: Mapping[str, Tensor] | None = None
) -> list[str]:
    """Load the pretrained weights of `source` into `tower`.

    Args:
        tower: Result of `build_tower`.
        source: Hub identifier (downloaded) or local folder of the weights.
        may_differ: Suffixes of names that keep random weights where the shape differs, as for a new vocabulary.
        theirs: Result of `read_weights` for `source`; read here when None.

    Returns:
        The names that kept their random weights.

    Raises:
        ContractError: when the weights are unavailable, or those of another network.
    """
    theirs = read_weights(tower, source) if theirs is None else theirs
    ours = tower.state_dict()
    kept = [name for name in ours if name not in theirs or theirs[name].shape != ours[name].shape]
    if wrong := [name for name in kept if not name.endswith(may_differ or ("\0",))]:
        shapes = [
            f"{n}: {tuple(theirs[n].shape) if n in theirs else 'absent'} for {tuple(ours[n].shape)}" for n in wrong
        ]
        raise ContractError(
            f"the weights of '{source}' do not fit this {type(tower).__name__}: " + "; ".join(shapes[:8])
        )
    tower.load_state_dict({**ours, **{name: theirs[name] for name in ours if name not in kept}})
    return kept


def _unreachable(kind: str, source: str, error: Exception) -> ContractError:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else ""
    return ContractError(
        f"'{source}' cannot be read as a {kind} ({type(error).__name__}: {reason}); it is neither a local folder with "
        "config.json and weights nor reachable on the hub. Check the name and the network, or download it elsewhere "
        "and name the folder"
    )


def choose_norm(network: nn.Module, norm: str) -> nn.Module:
    """Convert the batch normalization of a network for its use, in place, and return the network.

    "group": group normalization and reinitialized convolutions, for training from scratch: it does not depend on the
    batch, works for a batch of one, and averaged weights form a valid network (Chi et al. 2023).
    "frozen": batch normalization with the pretrained statistics. "batch": unchanged.

    Raises:
        ContractError: for any other value.
    """
    if norm not in NORMS:
        raise ContractError(f"norm is '{norm}', expected one of {', '.join(NORMS)}")
    if norm == "batch":
        return network
    for module in network.modules():
        if norm == "group" and isinstance(module, nn.Conv2d):
            # The towers initialize weights with a standard deviation of 0.02. Before a normalization, an optimizer step
            # of a similar size replaces them within a few steps, and the image information is lost.
            nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
    _replace_norms(network, norm)
    return network


def _replace_norms(network: nn.Module, norm: str) -> None:
    for name, child in network.named_children():
        if not isinstance(child, nn.BatchNorm2d):
            _replace_norms(child, norm)
            continue
        channels = child.num_features
        if norm == "group":
            groups = channels // GROUP_WIDTH if channels % GROUP_WIDTH == 0 else 1
            setattr(network, name, nn.GroupNorm(groups, channels, eps=1e-5))
        else:
            frozen = FrozenBatchNorm2d(channels, eps=child.eps)
            frozen.load_state_dict(child.state_dict())
            setattr(network, name, frozen.eval())


class FrozenBatchNorm2d(nn.BatchNorm2d):
    """Batch normalization with frozen statistics, also in training."""

    def train(self, mode: bool = True) -> FrozenBatchNorm2d:
        """Stay in evaluation mode."""
        return super().train(False)


def standardize(image: Tensor, mean: tuple[float, float, float], std: tuple[float, float, float]) -> Tensor:
    """Normalize images (B, 3, h, w), 0 to 1, with the channel statistics of a pretrained network."""
    shape = (1, 3, 1, 1)
    return (image - image.new_tensor(mean).view(shape)) / image.new_tensor(std).view(shape)


IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Channel mean and standard deviation of ImageNet, as EfficientNet expects them."""
CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
"""Channel mean and standard deviation of CLIP's training data."""
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
"""Channel mean and standard deviation of MobileNetV2: -1 to 1."""


def padding_mask(tokens: Tensor) -> Tensor:
    """Return (..., T) long, 1 at words and 0 at padding; an all-padding instruction keeps its first position."""
    mask = (tokens != 0).long()
    mask[..., 0] = torch.where(mask.sum(dim=-1) == 0, 1, mask[..., 0])
    return mask
