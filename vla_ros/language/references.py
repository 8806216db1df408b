"""Reference resolution: finds the objects that an instruction names by color and shape."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from vla_ros.language.tokenizer import split_words

_JOINING = frozenset({"and", "or"})
"""Words between colors that share one shape: "the red and blue cubes"."""

_BETWEEN = frozenset({"small", "little", "tiny", "big", "large", "tall", "short", "wooden", "plastic"})
"""Words that may occur between a color and its shape."""


@dataclass(frozen=True)
class Reference:
    """A named object; `colour` or `shape` is None where the instruction leaves it open."""

    colour: str | None
    shape: str | None

    def fits(self, colour: str, shape: str) -> bool:
        """Return whether an object of this color and shape matches."""
        return self.colour in (None, colour) and self.shape in (None, shape)

    def __str__(self) -> str:
        return " ".join(filter(None, (self.colour, self.shape)))


def find_references(text: str, colours: Collection[str], shapes: Collection[str]) -> tuple[Reference, ...]:
    """Return the objects that `text` names, in order.

    Args:
        text: A normalized instruction.
        colours: Known colors, lower case.
        shapes: Known shapes, lower case, singular.
    """
    found: list[Reference] = []
    waiting: list[str] = []  # colors whose shape has not appeared yet
    for word in split_words(text):
        if word in colours:
            waiting.append(word)
        elif (shape := _singular(word, shapes)) is not None:
            found += [Reference(colour, shape) for colour in waiting] or [Reference(None, shape)]
            waiting = []
        elif word not in _JOINING and word not in _BETWEEN:
            found += [Reference(colour, None) for colour in waiting]
            waiting = []
    return (*found, *(Reference(colour, None) for colour in waiting))


def _singular(word: str, shapes: Collection[str]) -> str | None:
    for candidate in (word, word.removesuffix("s"), word.removesuffix("es")):
        if candidate in shapes:
            return candidate
    return None
