"""Word-level tokenizer whose vocabulary is stored in the checkpoint."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_ros.errors import InstructionError

PAD, UNKNOWN = 0, 1
"""Token ids of padding and of unknown words."""

JOINERS = "\u200c\u200d"
"""Zero-width non-joiner and joiner: part of the spelling of words in Persian, Hindi and other languages."""


def _marks() -> str:
    """Return a regex character class of all combining marks: vowels of Hindi, Thai and others, lone accents."""
    ranges: list[list[int]] = []
    for code in range(0x300, 0xE01F0):
        if unicodedata.category(chr(code))[0] == "M":
            if ranges and ranges[-1][1] == code - 1:
                ranges[-1][1] = code
            else:
                ranges.append([code, code])
    return "".join(f"{chr(first)}-{chr(last)}" for first, last in ranges)


_ASCII_WORD = re.compile(r"[a-z0-9]+(?:['-][a-z0-9]+)*")


@cache
def _any_word() -> re.Pattern[str]:
    # A mark belongs to the letter before it; a joiner must stand between letters.
    letter = f"[^\\W_][{_marks()}]*"
    return re.compile(f"(?:{letter})+(?:['{JOINERS}-](?:{letter})+)*")


def split_words(text: str) -> list[str]:
    """Return the lower-case words of `text` in NFKC, without punctuation; marks and joiners are kept."""
    if text.isascii():
        return _ASCII_WORD.findall(text.lower())
    return _any_word().findall(unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).lower()))


@dataclass(frozen=True)
class WordTokenizer:
    """Maps the words of a fixed vocabulary to ids from 2; 0 is padding, 1 an unknown word."""

    words: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(set(self.words)) != len(self.words):
            raise ValueError("the vocabulary names a word twice")

    @property
    def size(self) -> int:
        """Number of token ids, including padding and unknown."""
        return len(self.words) + 2

    @cached_property
    def _index(self) -> Mapping[str, int]:
        return {word: i + 2 for i, word in enumerate(self.words)}

    def encode(self, text: str, length: int) -> NDArray[np.int64]:
        """Return the token ids (length,) int64 of `text`, padded with 0.

        Raises:
            InstructionError: when `text` has more than `length` words.
        """
        words = split_words(text)
        if len(words) > length:
            raise InstructionError(f"'{text}' has {len(words)} words, the policy reads at most {length}")
        index = self._index
        tokens = np.zeros(length, dtype=np.int64)
        tokens[: len(words)] = [index.get(word, UNKNOWN) for word in words]
        return tokens

    def unknown(self, text: str) -> list[str]:
        """Return the words of `text` that are not in the vocabulary, in order."""
        return [word for word in split_words(text) if word not in self._index]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for `from_dict`."""
        return {"words": list(self.words)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> WordTokenizer:
        """Create from the output of `to_dict`."""
        return cls(tuple(str(word) for word in values["words"]))
