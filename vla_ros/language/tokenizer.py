"""A word-level tokenizer whose vocabulary travels inside the checkpoint."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_ros.errors import InstructionError

PAD, UNKNOWN = 0, 1
"""Token ids that are no word."""

_WORD = re.compile(r"[^\W_]+(?:['-][^\W_]+)*")


def split_words(text: str) -> list[str]:
    """Return the lower-case words of `text`, without punctuation."""
    return _WORD.findall(text.lower())


@dataclass(frozen=True)
class WordTokenizer:
    """Maps the words of a fixed vocabulary to 2, 3, ...; 0 is padding and 1 any other word."""

    words: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(set(self.words)) != len(self.words):
            raise ValueError("the vocabulary names a word twice")

    @property
    def size(self) -> int:
        """Number of token ids, padding and unknown included."""
        return len(self.words) + 2

    @cached_property
    def _index(self) -> Mapping[str, int]:
        return {word: i + 2 for i, word in enumerate(self.words)}

    def encode(self, text: str, length: int) -> NDArray[np.int64]:
        """Return the tokens (length,) int64 of `text`, padded with 0.

        Raises:
            InstructionError: when it has more than `length` words.
        """
        words = split_words(text)
        if len(words) > length:
            raise InstructionError(f"'{text}' has {len(words)} words, the policy reads at most {length}")
        index = self._index
        tokens = np.zeros(length, dtype=np.int64)
        tokens[: len(words)] = [index.get(word, UNKNOWN) for word in words]
        return tokens

    def unknown(self, text: str) -> list[str]:
        """Return the words of `text` that the vocabulary lacks, in order."""
        return [word for word in split_words(text) if word not in self._index]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {"words": list(self.words)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> WordTokenizer:
        """Read what `to_dict` wrote."""
        return cls(tuple(str(word) for word in values["words"]))
