"""Splits "do a, then b" into its parts, in the order in which they are to be done."""

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
"""Words that only say which part it is."""

_NUMBERING = re.compile(r"(?:^|(?<=[.,;!?\n]\s))(?:step\s+)?\d+[.):](?=\s)", re.IGNORECASE)
"""The "2." of a numbered list."""


def split_instruction(text: str) -> tuple[str, ...]:
    """Return the parts of a normalised instruction; one that has no order in it comes back as it is.

    A bare "and" does not split: "the red and the blue cube" is one thing to do.
    """
    parts = (_FIRST.sub("", part.strip(" ,")).strip(" ,") for part in _BOUNDARY.split(_NUMBERING.sub("\n", text)))
    return tuple(part for part in parts if any(character.isalnum() for character in part))
