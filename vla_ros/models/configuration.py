"""What networks are built from: plain values, as they stand in a checkpoint, and the lines that several share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from numbers import Integral, Real
from typing import Any, TypeVar

from vla_ros.errors import ContractError
from vla_ros.models.columns import ActionColumns

Sizes = Mapping[str, tuple[int, int]]
"""Camera name to (height, width) of its images."""

NEEDED = ("cameras", "vocabulary", "state_width", "horizon")
"""Lines without which there is no network; all others have a value of their own."""


@dataclass(frozen=True)
class ModelConfig:
    """What every network needs to know.

    Attributes:
        cameras: Camera name to (height, width) of its images.
        vocabulary: How many words there are, padding and unknown among them.
        state_width: Numbers of proprioception.
        horizon: Rows a chunk.
        action: Columns of a row.
        freeze: Leave the parts that stand in lines of `VlaModel.BACKBONES` as they are while the rest is trained.
    """

    cameras: Sizes
    vocabulary: int
    state_width: int
    horizon: int
    action: ActionColumns = ActionColumns()  # noqa: RUF009 (frozen)
    freeze: bool = False

    @property
    def longest_sentence(self) -> int | None:
        """Most words of a sentence; None for a network that reads them one after the other, however many."""
        return None


@dataclass(frozen=True)
class ReadingConfig(ModelConfig):
    """A network with a place for each word.

    Attributes:
        words: Most words of a sentence.
    """

    words: int = 16

    @property
    def longest_sentence(self) -> int | None:
        """Most words of a sentence."""
        return self.words


@dataclass(frozen=True)
class TransformerConfig(ReadingConfig):
    """A transformer over image patches.

    Attributes:
        width: Numbers a token.
        heads: Of each attention.
        patch: Pixels, each way, of an image token.
    """

    width: int = 128
    heads: int = 4
    patch: int = 16


@dataclass(frozen=True)
class TowerConfig(ReadingConfig):
    """A convolutional tower of Transformers under a perceptron.

    Attributes:
        vision: Sizes of the tower, as `backbones.build_tower` takes them; the library's own where they say nothing. Or
            a trunk in its place, {"kind": "trunk", sizes}.
        shrink: The pictures' sides are divided by this (means of squares) before anything looks at them.
        norm: Its normalization: "group" to train from nothing, "frozen" with published weights, "batch".
        hidden: Width of the perceptrons.
    """

    vision: Mapping[str, Any] | None = None
    shrink: int = 1
    norm: str = "group"
    hidden: int = 256


_Config = TypeVar("_Config", bound=ModelConfig)


_SCALARS: Mapping[str, type] = {"int": Integral, "float": Real}
"""Annotations of lines whose values are checked, and what they take."""


def read_config(kind: type[_Config], values: Mapping[str, Any]) -> _Config:
    """Make the dataclass `kind` from plain values, as they stand in a checkpoint.

    Raises:
        ContractError: naming missing and unknown lines, or a camera size that is none.
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
