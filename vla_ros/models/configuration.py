"""Configurations of networks, read from plain values as stored in checkpoints, and their shared fields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from numbers import Integral, Real
from typing import Any, TypeVar

from vla_ros.errors import ContractError
from vla_ros.models.columns import ActionColumns

Sizes = Mapping[str, tuple[int, int]]
"""Camera name to (height, width) of its images, px."""

NEEDED = ("cameras", "vocabulary", "state_width", "horizon")
"""Required fields; all others have defaults."""


@dataclass(frozen=True)
class ModelConfig:
    """Configuration common to all networks.

    Attributes:
        cameras: Camera name to (height, width) of its images, px.
        vocabulary: Number of words, including padding and unknown.
        state_width: Size of the proprioception vector.
        horizon: Rows per chunk.
        action: Columns of a row.
        freeze: Freeze the backbones that fields in `VlaModel.BACKBONES` name while the rest is trained.
    """

    cameras: Sizes
    vocabulary: int
    state_width: int
    horizon: int
    action: ActionColumns = ActionColumns()  # noqa: RUF009 (frozen)
    freeze: bool = False

    @property
    def longest_sentence(self) -> int | None:
        """Maximum number of words of an instruction; None for a recurrent network, which has no maximum."""
        return None


@dataclass(frozen=True)
class ReadingConfig(ModelConfig):
    """Configuration of a network with a position for each word.

    Attributes:
        words: Maximum number of words of an instruction.
    """

    words: int = 16

    @property
    def longest_sentence(self) -> int | None:
        """Maximum number of words of an instruction."""
        return self.words


@dataclass(frozen=True)
class TransformerConfig(ReadingConfig):
    """Configuration of a transformer over image patches.

    Attributes:
        width: Size of a token.
        heads: Number of attention heads.
        patch: Side of an image patch, px.
    """

    width: int = 128
    heads: int = 4
    patch: int = 16


@dataclass(frozen=True)
class TowerConfig(ReadingConfig):
    """Configuration of a convolutional backbone of Hugging Face Transformers, followed by an MLP.

    Attributes:
        vision: Sizes of the backbone, as `backbones.build_tower` takes them, by default the library's; or a trunk in
            its place, {"kind": "trunk", sizes}.
        shrink: Factor by which image sides are reduced first, by average pooling.
        norm: Normalization: "group" to train from scratch, "frozen" with published weights, or "batch".
        hidden: Width of the MLPs.
    """

    vision: Mapping[str, Any] | None = None
    shrink: int = 1
    norm: str = "group"
    hidden: int = 256


_Config = TypeVar("_Config", bound=ModelConfig)


_SCALARS: Mapping[str, type] = {"int": Integral, "float": Real}
"""Annotations of the fields whose values are checked, and the types that they accept."""


def read_config(kind: type[_Config], values: Mapping[str, Any]) -> _Config:
    """Build the dataclass `kind` from plain values, as stored in checkpoints.

    Raises:
        ContractError: naming missing and unknown fields, or an invalid camera size.
    """
    known = [f.name for f in fields(kind)]
    if unknown := sorted(set(values) - set(known)):
        raise ContractError(f"{kind.__name__} does not know {unknown}; it takes {known}")
    if missing := [name for name in NEEDED if name not in values]:
        raise ContractError(f"{kind.__name__} lacks {missing}; got {sorted(values)}")
    try:
        cameras = {str(name): (int(size[0]), int(size[1])) for name, size in values["cameras"].items()}
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        raise ContractError(f"cameras is {values['cameras']!r}, expected name to (height, width)") from error
    for field in fields(kind):
        accepted = _SCALARS.get(str(field.type))
        value = values.get(field.name, field.default)
        if accepted and field.name in values and (not isinstance(value, accepted) or isinstance(value, bool)):
            raise ContractError(f"{field.name} is {value!r}, expected {field.type}")
    if not cameras:
        raise ContractError("cameras is empty, expected at least one camera")
    if bad := {name: values[name] for name in NEEDED[1:] if int(values[name]) < 1}:
        raise ContractError(f"{bad}: expected positive numbers")
    columns = {"action": ActionColumns.from_dict(values["action"])} if "action" in values else {}
    return kind(**{**values, "cameras": cameras, **columns})
