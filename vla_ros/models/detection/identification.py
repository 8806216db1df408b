"""Resolves which of several objects an instruction means: one of them, none, or a clarifying question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

FOUND, NOT_THERE, AMBIGUOUS = "found", "not there", "which of them"


@dataclass(frozen=True)
class SceneObject:
    """An object seen by a detector.

    Attributes:
        feature: (D,), its visual feature.
        place: (3,), its position, normalized.
        pixels: Camera to (2,), its position in the image, 0 to 1.
        confidence: Confidence of the detector, 0 to 1.
        name: Name used in the answer, if any.
    """

    feature: Tensor
    place: Tensor
    pixels: Mapping[str, Tensor] = field(default_factory=dict)
    confidence: float = 1.0
    name: str = ""


@dataclass(frozen=True)
class Identification:
    """Result of an identification.

    Attributes:
        answer: `FOUND`, `NOT_THERE` or `AMBIGUOUS`.
        candidates: Indices of the matching objects, most likely first: one, none, or several.
        probabilities: One per object, then that of "none of them".
    """

    answer: str
    candidates: tuple[int, ...]
    probabilities: tuple[float, ...]

    @property
    def index(self) -> int | None:
        """Index of the object that is meant; None when there is none or several match."""
        return self.candidates[0] if self.answer == FOUND else None

    def sentence(self, objects: Sequence[SceneObject]) -> str:
        """Return the answer as a sentence for users."""
        names = [objects[i].name or f"object {i + 1}" for i in self.candidates]
        if self.answer == NOT_THERE:
            return "It is not there."
        if self.answer == FOUND:
            return f"It is the {names[0]}."
        which = "Which of the two" if len(names) == 2 else f"Which of the {len(names)}"
        return f"{which}: {', '.join(names[:-1])} or {names[-1]}?"


def decide(scores: Tensor, none: float, margin: float) -> Identification:
    """Decide from matching scores (K,) and the score of "none of them", all logits.

    All objects within `margin` of the best one are candidates. The answer is "not there" when "none of them" outweighs
    all objects together; without objects it always is.
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
