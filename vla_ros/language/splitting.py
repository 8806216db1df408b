"""Splits a compound instruction such as "do a, then b" into its steps, in execution order."""

from __future__ import annotations

import re

_BOUNDARY = re.compile(
    r"""
      [.!?;]+(?=\s|$)                                           # the end of a sentence, not the point in 0.5
    | (?:[,\s]+and|,)?\s*\b(?:then|afterwards|after\ that|finally)\b,?   # words that put things in order
    | ,?\s+\bnext\b\s*,                                         # "next," orders; "next to" does not
    | [\r\n]+
    """,
    re.VERBOSE | re.IGNORECASE,
)
_FIRST = re.compile(r"^(?:first(?:ly)?\b,?|next\b,)\s*", re.IGNORECASE)
"""Words at the start of a step that only state its position."""

_NUMBERING = re.compile(r"(?:^|(?<=[.,;!?\n]\s))(?:step\s+)?\d+[.):](?=\s)", re.IGNORECASE)
"""Numbering of a list, such as "2."."""


def split_instruction(text: str) -> tuple[str, ...]:
    """Return the steps of a normalized instruction; one without a sequence is returned whole.

    A bare "and" does not split: "the red and the blue cube" is one task.
    """
    parts = (_FIRST.sub("", part.strip(" ,")).strip(" ,") for part in _BOUNDARY.split(_NUMBERING.sub("\n", text)))
    return tuple(part for part in parts if any(character.isalnum() for character in part))
