"""Checks of a network's inputs and targets; an error states what was received and what was expected."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from vla_ros.errors import InstructionError, ObservationError
from vla_ros.models.batch import ModelInput, ModelTarget, check_width
from vla_ros.models.configuration import ModelConfig


def check_input(
    inputs: ModelInput, config: ModelConfig, cached: Mapping[str, tuple[int, int, int] | None] | None = None
) -> None:
    """Raise if a network built from `config` cannot read `inputs`.

    Token values are checked too, except on the meta device, where they have none.

    Args:
        inputs: Input to check.
        config: Configuration of the network.
        cached: Camera to the shape of the feature map that may replace its image, see `VlaModel.cached_shape`.

    Raises:
        ValueError: for a wrong width, dtype or number of axes, or an empty batch.
        ObservationError: for a missing camera, or an image of the wrong size or dtype.
        InstructionError: for an empty or too long instruction, an unknown token, or padding before a word.
    """
    tokens = inputs.tokens
    if tokens.ndim != 3 or 0 in tokens.shape or tokens.is_floating_point():
        raise ValueError(
            f"tokens have shape {tuple(tokens.shape)} {tokens.dtype}, expected whole numbers "
            "(scenes >= 1, sentences >= 1, words >= 1)"
        )
    scenes, _, length = tokens.shape
    if config.longest_sentence is not None and length > config.longest_sentence:
        raise InstructionError(
            f"sentences are padded to {length} words, the network reads at most {config.longest_sentence}"
        )
    check_width("state", inputs.state, config.state_width)
    if tuple(inputs.state.shape) != (scenes, config.state_width):
        raise ValueError(f"state has shape {tuple(inputs.state.shape)}, expected {(scenes, config.state_width)}")
    for name, size in config.cameras.items():
        if name not in inputs.images:
            raise ObservationError(
                f"camera '{name}' is missing; got {sorted(inputs.images)}, expected {[*config.cameras]}"
            )
        image = inputs.images[name]
        shapes = [(3, *size), *([there] if (there := (cached or {}).get(name)) else [])]
        if tuple(image.shape) not in [(scenes, *shape) for shape in shapes] or not image.is_floating_point():
            raise ObservationError(
                f"camera '{name}' gave {tuple(image.shape)} {image.dtype}, expected {(scenes, 3, *size)} float, 0 to 1"
            )
    if not tokens.is_meta:
        _check_words(tokens, config.vocabulary)


def check_target(inputs: ModelInput, target: ModelTarget, config: ModelConfig) -> None:
    """Raise if `target` is not a valid target for `inputs` in a network built from `config`.

    Raises:
        ValueError: naming the field whose shape is wrong.
    """
    pairs = tuple(inputs.tokens.shape[:2])
    expected = {
        "continuous": (*pairs, config.horizon, config.action.continuous),
        "binary": (*pairs, config.horizon, config.action.binary),
        "target_visible": pairs,
    }
    if target.target is not None:
        expected["target"] = (*pairs, 3)
    for name, shape in expected.items():
        if (got := tuple(getattr(target, name).shape)) != shape:
            raise ValueError(f"{name} has shape {got}, expected {shape}")


def _check_words(tokens: Tensor, vocabulary: int) -> None:
    strange = (tokens < 0) | (tokens >= vocabulary)
    empty = (tokens == 0).all(dim=-1)
    holes = (tokens[..., :-1] == 0) & (tokens[..., 1:] != 0)
    if not bool((strange.any() | empty.any() | holes.any()).item()):  # a single device synchronization
        return
    if bool(strange.any()):
        found = sorted({int(t) for t in tokens[strange].tolist()})[:5]
        raise InstructionError(f"token {found[0]} is no word: got {found}, the vocabulary has 0 to {vocabulary - 1}")
    if bool(empty.any()):
        where = empty.nonzero()[0].tolist()
        raise InstructionError(f"the instruction is empty (all padding) at (scene, sentence) {where}; expected words")
    where = holes.nonzero()[0].tolist()
    raise InstructionError(f"padding before a word at (scene, sentence, word) {where}; expected it after the last word")
