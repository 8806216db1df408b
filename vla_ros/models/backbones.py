"""Encoders from Hugging Face Transformers: from plain values with random weights, or with published ones on request.

Building one never reads a weight and never opens a connection, so a checkpoint of this package loads anywhere:

    values = read_values("clip", "openai/clip-vit-base-patch32")     # its sizes, from the hub or a local folder
    tower = build_tower("clip", values)                              # random weights
    load_weights(tower, "openai/clip-vit-base-patch32")              # its weights, because the user asked for them
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
    """A network of Transformers.

    Attributes:
        sizes: Class that holds its sizes.
        network: Class of the network.
        options: What the network is built with beside its sizes.
        model_types: What a published description calls it, where that is not its name in `TOWERS`.
        unused: Beginnings of weights that no network of this package uses; they do not learn.
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
        "CLIPVisionConfig", "CLIPVisionModel", model_types=("clip_vision_model", "clip"),
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
}  # fmt: skip
"""Name to a network of Transformers."""

NOT_SIZES = ("transformers_version", "architectures", "dtype", "torch_dtype", "_name_or_path")
"""Lines of a published description that say nothing of the network's shape."""

NORMS = ("group", "batch", "frozen")
GROUP_WIDTH = 8
"""Channels that one group of a group normalisation shares, where the width allows."""


def transformers() -> ModuleType:
    """Import and return Transformers.

    Raises:
        ContractError: with the command that installs it, when it is absent.
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
    """Return the network `kind` with random weights, sized by `values`; what they leave out is the library's default.

    Raises:
        ContractError: when Transformers is absent, `kind` is unknown, or the values make no network.
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
    """Silence the library's warning that its special tokens lie outside a vocabulary of this package's own."""
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
        source: Identifier on the hub, which downloads its small description, or a local folder.
        kinds: Names in `TOWERS`.

    Raises:
        ContractError: when it cannot be had, or is none of them.
    """
    library = transformers()
    try:
        found = str(library.AutoConfig.from_pretrained(source).model_type)
    except Exception as error:  # the hub, the network and the files each have errors of their own
        raise _unreachable(" or ".join(kinds), source, error) from error
    for kind in kinds:
        if found in (kind, *TOWERS[kind].model_types):
            return kind
    raise ContractError(f"'{source}' is a network of type '{found}', expected one of {', '.join(kinds)}")


def read_values(kind: str, source: str) -> dict[str, Any]:
    """Return the sizes of a published network, as plain values that `build_tower` takes.

    Args:
        kind: Name in `TOWERS`.
        source: Identifier on the hub, which downloads its small description, or a local folder.

    Raises:
        ContractError: when it cannot be had, with what to do.
    """
    sizes, _ = _classes(kind)
    try:
        found = sizes.from_pretrained(source)
    except Exception as error:  # as above
        raise _unreachable(kind, source, error) from error
    return {name: value for name, value in found.to_diff_dict().items() if name not in NOT_SIZES}


def read_weights(tower: nn.Module, source: str) -> dict[str, Tensor]:
    """Return the published weights of `source`, a hub identifier (downloaded) or a local folder, by `tower`'s names.

    Raises:
        ContractError: when they cannot be had, with what to do.
    """
    kind = type(tower)
    try:
        with _quiet():
            # Safetensors alone: the older format is a pickle.
            found = kind.from_pretrained(source, use_safetensors=True)  # type: ignore[attr-defined]
    except Exception as error:  # as above
        raise _unreachable(kind.__name__, source, error) from error
    return dict(found.state_dict())


def load_weights(
    tower: nn.Module, source: str, may_differ: tuple[str, ...] = (), theirs: Mapping[str, Tensor] | None = None
) -> list[str]:
    """Give `tower` the published weights of `source`.

    Args:
        tower: What `build_tower` returned.
        source: Whose weights: a hub identifier (downloaded) or a local folder.
        may_differ: Endings of names that keep their random weights where the shape differs: a vocabulary of one's own.
        theirs: What `read_weights` returned for `source`; read here when None.

    Returns:
        The names that kept their random weights.

    Raises:
        ContractError: when the weights cannot be had, or are those of another network.
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
    """Give a network with batch normalisation the kind that its use calls for, in place, and return it.

    "group": group normalisation and convolutions drawn anew, for training from nothing: it does not depend on the
    batch, works for a batch of one, and an average of the weights is a network of its own (Chi et al. 2023).
    "frozen": batch normalisation with the statistics that came with published weights. "batch": as it is.

    Raises:
        ContractError: for another word.
    """
    if norm not in NORMS:
        raise ContractError(f"norm is '{norm}', expected one of {', '.join(NORMS)}")
    if norm == "batch":
        return network
    for module in network.modules():
        if norm == "group" and isinstance(module, nn.Conv2d):
            # The towers draw their own weights with a deviation of 0.02. Behind a normalisation an optimiser that moves
            # each weight by a rate near that turns them over in a few steps, and the picture is lost.
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
    """Batch normalisation that keeps its statistics, in training too."""

    def train(self, mode: bool = True) -> FrozenBatchNorm2d:
        """Stay as it is."""
        return super().train(False)


def standardise(image: Tensor, mean: tuple[float, float, float], deviation: tuple[float, float, float]) -> Tensor:
    """Return images (B, 3, h, w) of 0 to 1 with the channel statistics that a published network was trained with."""
    shape = (1, 3, 1, 1)
    return (image - image.new_tensor(mean).view(shape)) / image.new_tensor(deviation).view(shape)


IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Channel mean and deviation of ImageNet, as EfficientNet expects them."""
CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
"""Those of the data that CLIP was trained on."""
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
"""Those of MobileNetV2: -1 to 1."""


def padding_mask(tokens: Tensor) -> Tensor:
    """Return (..., T) long, 1 at words and 0 at padding; a sentence of padding alone keeps its first place."""
    mask = (tokens != 0).long()
    mask[..., 0] = torch.where(mask.sum(dim=-1) == 0, 1, mask[..., 0])
    return mask
