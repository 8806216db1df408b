"""Small policy for many tasks that parses an instruction into its parts, and attends to each part independently.

An instruction becomes concepts (`InstructionParser`): the act, color and kind of the object, and its goal. The parser
learns them on its own; the rest of the network learns what follows from them.
Each camera's feature map predicts the color and the kind at every cell. The network attends to where both agree:
log p(color) + log p(kind), a product of experts (Hinton 2002). Color is predicted from nine by nine pixels around a
cell, too few to see a shape, and each expert is trained on its own at the positions of objects. So a color and a shape
that were never seen together are found all the same, and an untrained word only needs to mean one of the parts.

From the two keypoints of attention in each camera, the network predicts the positions of object and goal in the base
frame, and from these the chunk, as `keypoint` does.

==============  ===================================================================================
`concepts`      classes
==============  ===================================================================================
`act`           `ACTS`: pick; carry (place and stack); push left, right, forward, back
`colour`        of the object: `colours`
`kind`          of the object: `kinds`
`goal_colour`   of the goal: `colours`, and one more for "no goal"
`goal_kind`     of the goal: `kinds`, and one more for "no goal"
==============  ===================================================================================
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from vla_ros.errors import ContractError
from vla_ros.models.batch import ModelInput, ModelOutput, ModelTarget
from vla_ros.models.columns import ActionColumns
from vla_ros.models.configuration import ModelConfig
from vla_ros.models.contract import VlaModel
from vla_ros.models.layers.eyes import TargetFeatures, View, VisionEncoder
from vla_ros.models.layers.pointing import cell_loss, pointing_loss
from vla_ros.models.layers.precision import full_precision
from vla_ros.models.layers.sentences import ACTS, COLOUR_COLUMNS, InstructionParser
from vla_ros.models.losses import action_losses, mean_where_present, squared_rotation, total
from vla_ros.models.networks.keypoint import STRIDE

CONCEPTS = ("act", "colour", "kind", "goal_colour", "goal_kind")
"""Names of the concepts; see the table of this module."""


@dataclass(frozen=True)
class CompositionalConfig(ModelConfig):
    """Configuration of the network; the first three numbers of the state are the tool's position.

    Attributes:
        colours: Number of colors.
        kinds: Number of kinds of objects.
        word_width: Size of a word vector.
        channels: Number of channels of the feature maps.
        free_points: Number of keypoints per camera besides those of object and goal.
        hidden: Width of the MLPs.
    """

    colours: int = 6
    kinds: int = 6
    word_width: int = 132
    channels: int = 56
    free_points: int = 4
    hidden: int = 320

    def __post_init__(self) -> None:
        for name, size in self.cameras.items():
            if any(side % STRIDE or side < 4 * STRIDE for side in size):
                raise ContractError(f"camera '{name}' is {size}, expected multiples of {STRIDE}, at least {4 * STRIDE}")
        if self.word_width <= COLOUR_COLUMNS:
            raise ContractError(f"word_width is {self.word_width}, expected more than {COLOUR_COLUMNS}")


class CompositionalModel(VlaModel):
    """Parser, vision encoders and action head; see the module."""

    Config = CompositionalConfig
    LEARNS_PLACES: ClassVar = True
    TINY: ClassVar = {"channels": 32, "hidden": 128}
    FULL: ClassVar = {
        "cameras": {"front": [224, 224], "wrist": [224, 224]},
        "vocabulary": 4096,
        "state_width": 10,
        "horizon": 16,
        "channels": 192,
        "free_points": 16,
        "hidden": 1024,
    }
    config: CompositionalConfig

    def __init__(self, config: CompositionalConfig) -> None:
        """Build the network with random weights; word vectors are random until `set_word_vectors`."""
        super().__init__(config)
        self.reader = InstructionParser(config.vocabulary, config.word_width, config.colours, config.kinds)
        self.eyes = nn.ModuleDict(
            {
                name: VisionEncoder(config.channels, config.colours, config.kinds, config.free_points)
                for name in config.cameras
            }
        )
        cameras, view = len(config.cameras), config.channels // 2 + 4
        around = cameras * 2 * config.free_points + config.state_width
        self.locate = _perceptron(cameras * view + around, config.hidden, 3)
        self.present = nn.Linear(4 * cameras, 1)
        told = 2 * cameras * view + around + len(ACTS) + 15
        self.plan = _Plan(told, config.hidden, config.horizon * config.action.width)

    def set_word_vectors(self, vectors: Tensor) -> None:
        """Set the vector of every token, (vocabulary, word_width).

        Raises:
            ContractError: for a wrong shape.
        """
        self.reader.set_word_vectors(vectors)

    def predict(self, inputs: ModelInput) -> ModelOutput:
        """Predict a chunk for every instruction of every scene."""
        return self._forward(inputs)[0]

    def read(self, tokens: Tensor) -> dict[str, Tensor]:
        """Parse instructions (B, N, T) into logits of each concept, (B, N, classes)."""
        logits: dict[str, Tensor] = self.reader(tokens)
        return logits

    def own_heads(self, inputs: ModelInput) -> dict[str, Tensor]:
        """Return the predicted position of the goal, (B, N, 3) normalized, and the probabilities of each concept."""
        intermediates = self._forward(inputs)[1]
        return {
            "goal": intermediates.place,
            **{name: values.softmax(dim=-1) for name, values in intermediates.logits.items()},
        }

    def _forward(
        self, inputs: ModelInput, concepts: Mapping[str, Tensor] | None = None
    ) -> tuple[ModelOutput, _Intermediates]:
        """Return the output and its intermediate results; known `concepts` replace the parsed ones."""
        self.check(inputs)
        logits = self.reader(inputs.tokens)
        if concepts:
            probs = self._one_hot(concepts, inputs.state)
        else:
            probs = {name: _straight_through(values).to(inputs.state.dtype) for name, values in logits.items()}
        views = {name: eye(inputs.images[name], probs) for name, eye in self.eyes.items()}
        looks = {name: view.thing_look for name, view in views.items()}
        # Convolutions tolerate bf16; keypoints and metric offsets need fp32.
        with full_precision(inputs.state):
            output, place = self._decide(
                probs, {name: view.target_features for name, view in views.items()}, inputs.state
            )
        return replace(output, attention=looks), _Intermediates(logits, views, place)

    def look(self, images: Mapping[str, Tensor], concepts: Mapping[str, Tensor]) -> dict[str, TargetFeatures]:
        """Return target features of each camera's images (B, 3, h, w) for known concepts (B, N)."""
        probs = self._one_hot(concepts, next(iter(images.values())))
        return {name: eye(images[name], probs).target_features for name, eye in self.eyes.items()}

    def action_head_loss(
        self, target_features: Mapping[str, TargetFeatures], state: Tensor, target: ModelTarget
    ) -> tuple[Tensor, dict[str, float]]:
        """Return the loss of the action head, given target features and state (B, S), without running vision.

        Raises:
            ValueError: when target, goal or concepts are missing.
        """
        concepts = target.concepts
        if target.target is None or target.goal is None or not concepts:
            raise ValueError("the action head is trained on `target`, `goal` and `concepts`: one of them is missing")
        output, place = self._decide(self._one_hot(concepts, state), target_features, state)
        carried = target.target_visible * (concepts["goal_kind"] < self.config.kinds)
        parts = _action_head_losses(output, target, self.config.action)
        return total({**parts, "goal": 2.0 * _chunk_error(place, target.goal, carried)})

    def _one_hot(self, concepts: Mapping[str, Tensor], like: Tensor) -> dict[str, Tensor]:
        """Return known concepts (B, N) as one-hot probabilities (B, N, classes)."""
        things, goals = (self.config.colours, self.config.kinds), (self.config.colours + 1, self.config.kinds + 1)
        classes = dict(zip(CONCEPTS, (len(ACTS), *things, *goals), strict=True))
        return {name: functional.one_hot(concepts[name], count).to(like) for name, count in classes.items()}

    def _decide(
        self, probs: Mapping[str, Tensor], views: Mapping[str, TargetFeatures], state: Tensor
    ) -> tuple[ModelOutput, Tensor]:
        """Return the output, without attention, and the position of the goal, (B, N, 3) normalized."""
        scenes, sentences = probs["act"].shape[:2]
        has_goal = 1.0 - probs["goal_kind"][..., -1:]
        state = state[:, None].expand(-1, sentences, -1)
        free = [view.free[:, None].expand(-1, sentences, -1) for view in views.values()]
        around = torch.cat([*free, state], dim=-1)
        thing = torch.cat([view.thing for view in views.values()], dim=-1)
        goal = torch.cat([view.goal for view in views.values()], dim=-1)
        target = self.locate(torch.cat([thing, around], dim=-1))
        place = self.locate(torch.cat([goal, around], dim=-1))
        tool, there, then = state[..., :3], target.detach(), place.detach() * has_goal
        ways = [there, there - tool, then, has_goal * (then - tool), has_goal * (then - there)]
        plan = self.plan(torch.cat([thing, goal * has_goal, around, probs["act"], *ways], dim=-1))
        plan = plan.view(scenes, sentences, self.config.horizon, self.config.action.width)
        evidence = [torch.cat([view.thing[..., :2], view.goal[..., :2] * has_goal], dim=-1) for view in views.values()]
        output = ModelOutput(
            continuous=plan[..., : self.config.action.continuous],
            binary=plan[..., self.config.action.continuous :],
            target=target,
            target_visible=self.present(torch.cat(evidence, dim=-1))[..., 0],
        )
        return output, place

    def compute_loss(self, inputs: ModelInput, target: ModelTarget) -> tuple[Tensor, dict[str, float]]:
        """Return the loss: chunk, keypoints and positions of object and goal, presence, and concepts.

        Goals, words and the experts of color and kind are trained only if there are `concepts`.

        Raises:
            ValueError: when `target`, or the `pixels` of a camera, are missing.
        """
        self.check(inputs, target)
        if target.concepts and self._only_reads():
            return total(_word_losses(self.reader(inputs.tokens), target.concepts))
        output, intermediates = self._forward(inputs, target.concepts)
        missing = [name for name in self.config.cameras if name not in target.pixels]
        if output.target is None or target.target is None or missing:
            lacks = "`target`" if target.target is None else f"`pixels` of {missing}"
            raise ValueError(f"the compositional network is taught where the named thing is: {lacks} is missing")
        parts = _action_head_losses(output, target, self.config.action)
        for name, look in output.attention.items():
            parts[f"look_{name}"] = 0.1 * pointing_loss(look, target.pixels[name], target.target_visible)
        if target.concepts:
            parts |= self._concept_losses(intermediates, target)
        return total(parts)

    def _only_reads(self) -> bool:
        """Return whether only the parser is trained, so that images need not be encoded.

        In a copy for evaluation nothing is trained, and images are encoded.
        """
        trained = [name for name, p in self.named_parameters() if p.requires_grad]
        return bool(trained) and all(name.startswith("reader.") for name in trained)

    def _concept_losses(self, intermediates: _Intermediates, target: ModelTarget) -> dict[str, Tensor]:
        there, concepts = target.target_visible, target.concepts
        parts = _word_losses(intermediates.logits, concepts)
        for name, view in intermediates.views.items():
            size, pixels = _map_size(view.thing_look), target.pixels[name]
            parts[f"colour_{name}"] = 0.1 * cell_loss(view.colour, size, pixels, concepts["colour"], there)
            parts[f"kind_{name}"] = 0.1 * cell_loss(view.kind, size, pixels, concepts["kind"], there)
        if target.goal is not None:
            carried = there * (concepts["goal_kind"] < self.config.kinds)
            parts["goal"] = 2.0 * _chunk_error(intermediates.place, target.goal, carried)
            for name, view in intermediates.views.items():
                size, pixels = _map_size(view.goal_look), target.goal_pixels[name]
                parts[f"goal_{name}"] = 0.1 * pointing_loss(view.goal_look, pixels, carried)
                parts[f"colour_{name}"] = parts[f"colour_{name}"] + 0.1 * cell_loss(
                    view.colour, size, pixels, concepts["goal_colour"], carried
                )
                parts[f"kind_{name}"] = parts[f"kind_{name}"] + 0.1 * cell_loss(
                    view.kind, size, pixels, concepts["goal_kind"], carried
                )
        return parts


def _action_head_losses(output: ModelOutput, target: ModelTarget, columns: ActionColumns) -> dict[str, Tensor]:
    there = target.target_visible
    assert output.target is not None  # the caller has made sure of both targets, and the network says both
    assert output.target_visible is not None
    assert target.target is not None
    return {
        **action_losses(output, target, columns, squared_rotation),
        "target": 2.0 * _chunk_error(output.target, target.target, there),
        "present": 0.2 * functional.binary_cross_entropy_with_logits(output.target_visible, there),
    }


def _map_size(look: Tensor) -> tuple[int, int]:
    return look.shape[-2], look.shape[-1]


def _word_losses(logits: Mapping[str, Tensor], concepts: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        f"word_{name}": 0.1 * functional.cross_entropy(logits[name].flatten(0, 1), classes.flatten())
        for name, classes in concepts.items()
    }


@dataclass(frozen=True)
class _Intermediates:
    """Intermediate results: logits of each concept, vision output of each camera, goal position (B, N, 3)."""

    logits: Mapping[str, Tensor]
    views: Mapping[str, View]
    place: Tensor


def _straight_through(logits: Tensor) -> Tensor:
    """Return the likeliest class as one-hot, as a mean of classes means nothing; the gradient is the softmax's."""
    probs = logits.softmax(dim=-1)
    one = functional.one_hot(probs.argmax(dim=-1), probs.shape[-1]).to(probs.dtype)
    return one + probs - probs.detach()


class _Plan(nn.Module):
    """MLP with one residual block."""

    def __init__(self, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.first = nn.Linear(inputs, hidden)
        self.block = nn.Sequential(nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, hidden))
        self.last = nn.Linear(hidden, outputs)

    def forward(self, values: Tensor) -> Tensor:
        first = functional.relu(self.first(values))
        planned: Tensor = self.last(functional.relu(first + self.block(first)))
        return planned


def _perceptron(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, outputs)
    )


def _chunk_error(output: Tensor, target: Tensor, there: Tensor) -> Tensor:
    return mean_where_present(functional.smooth_l1_loss(output, target, reduction="none", beta=0.1), there)
