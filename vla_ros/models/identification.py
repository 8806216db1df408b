"""Which of several things a command means: one of them, none, or a question back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

FOUND, NOT_THERE, AMBIGUOUS = "found", "not there", "which of them"


@dataclass(frozen=True)
class SceneObject:
    """A thing that a detector saw.

    Attributes:
        feature: (D,), what it looks like to the network that saw it.
        place: (3,), where it is, normalised.
        pixels: Camera to (2,), where it is in the picture, 0 to 1.
        confidence: How sure the detector is, 0 to 1.
        name: For the answer, where it has one.
    """

    feature: Tensor
    place: Tensor
    pixels: Mapping[str, Tensor] = field(default_factory=dict)
    confidence: float = 1.0
    name: str = ""


@dataclass(frozen=True)
class Identification:
    """An answer.

    Attributes:
        answer: `FOUND`, `NOT_THERE` or `AMBIGUOUS`.
        candidates: Indices of the things that it is about, the likeliest first: one, none, or several.
        probabilities: Of each thing, and last of none of them.
    """

    answer: str
    candidates: tuple[int, ...]
    probabilities: tuple[float, ...]

    @property
    def index(self) -> int | None:
        """The thing that is meant; None when there is none or several fit."""
        return self.candidates[0] if self.answer == FOUND else None

    def sentence(self, objects: Sequence[SceneObject]) -> str:
        """Return the answer for people."""
        names = [objects[i].name or f"object {i + 1}" for i in self.candidates]
        if self.answer == NOT_THERE:
            return "It is not there."
        if self.answer == FOUND:
            return f"It is the {names[0]}."
        which = "Which of the two" if len(names) == 2 else f"Which of the {len(names)}"
        return f"{which}: {', '.join(names[:-1])} or {names[-1]}?"


def decide(scores: Tensor, none: float, margin: float) -> Identification:
    """Return the answer to matching scores (K,) and to the score of "none of them", all logits.

    All things within `margin` of the best one are candidates. "Not there" is the answer when none of them outweighs all
    things together; without things it always is.
    """
    if not len(scores):
        return Identification(NOT_THERE, (), (1.0,))
    logits = torch.cat([scores.detach().float().cpu(), torch.tensor([float(none)])])
    probabilities = tuple(logits.softmax(dim=0).tolist())
    if probabilities[-1] > 0.5:
        return Identification(NOT_THERE, (), probabilities)
    order = logits[:-1].argsort(descending=True, stable=True).tolist()
    near = tuple(i for i in order if float(logits[order[0]] - logits[i]) < margin)
    return Identification(FOUND if len(near) == 1 else AMBIGUOUS, near, probabilities)
