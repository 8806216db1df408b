"""Paraphrases instructions: synonyms, other phrasings, and typing slips.

The meaning never changes: a word is replaced only by one from its own row of the table, directions and numbers are
never touched, and typing slips never affect the words that name objects and actions.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from vla_ros.errors import ContractError

SYNONYMS: tuple[tuple[str, ...], ...] = (
    ("pick up", "grab", "take", "lift", "grasp"),
    ("put", "place", "set"),
    ("push", "shove", "slide"),
    ("stack", "pile"),
    ("cube", "block"),
    ("ball", "sphere"),
    ("red", "crimson", "scarlet"),
    ("blue", "azure"),
    ("green", "emerald"),
    ("yellow", "golden"),
    ("on top of", "onto"),
)
"""Rows of words with one meaning to a tabletop robot; a word appears in at most one row."""

FRAMES = ("{}", "please {}", "{} please", "can you {}", "could you {}", "now {}", "i want you to {}", "{} for me")
"""Phrasings of a request; none of them alters the request itself."""


@dataclass(frozen=True)
class LanguageAugmentation:
    """Probability of each change, 0 to 1.

    Attributes:
        synonym: Probability that a word with synonyms is replaced.
        frame: Probability that the instruction is rephrased.
        article: Probability that an article is dropped.
        slip: Probability that two adjacent letters of a harmless word are swapped; ASCII words only, because in other
            scripts a swap often yields another word.
        synonyms: Rows of words with one meaning.
        frames: Phrasings of a request.
    """

    synonym: float = 0.3
    frame: float = 0.3
    article: float = 0.1
    slip: float = 0.02
    synonyms: tuple[tuple[str, ...], ...] = SYNONYMS
    frames: tuple[str, ...] = FRAMES

    def __post_init__(self) -> None:
        for name in ("synonym", "frame", "article", "slip"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ContractError(f"chance of '{name}' is {getattr(self, name)}, expected 0 to 1")
        words = [word for row in self.synonyms for word in row]
        if twice := sorted({word for word in words if words.count(word) > 1}):
            raise ContractError(f"{twice} stand in two rows of synonyms, so their meaning is not one")
        if wrong := [frame for frame in self.frames if frame.count("{}") != 1]:
            raise ContractError(f"a way to put a request has one place '{{}}' for it, got {wrong}")

    def __call__(self, sentence: str, random: np.random.Generator) -> str:
        """Return a paraphrase of the instruction; `random` determines the choices."""
        rows = {word: row for row in self.synonyms for word in row}
        sentence = self._exchanged(sentence, rows, random)
        words = sentence.split(" ")
        words = [word for word in words if word not in ("the", "a", "an") or random.random() >= self.article]
        protected = {part for word in rows for part in word.split(" ")}
        words = [self._slipped(word, protected, random) for word in words]
        sentence = " ".join(words)
        if random.random() < self.frame:
            sentence = self.frames[int(random.integers(len(self.frames)))].replace("{}", sentence)
        return sentence

    def reach(self, sentence: str) -> tuple[set[str], int]:
        """Return texts that cover every possible output word (typing slips excluded), and the most words added."""
        texts, more = {sentence, *(self.frames if self.frame else ())}, 0
        for row in self.synonyms if self.synonym else ():
            for word in row:
                found = len(re.findall(rf"\b{re.escape(word)}\b", sentence))
                texts |= set(row) if found else set()
                more += found * (max(len(other.split()) for other in row) - len(word.split()))
        return texts, more + max((len(frame.split()) - 1 for frame in self.frames if self.frame), default=0)

    def batch(self, sentences: Iterable[str], random: np.random.Generator) -> list[str]:
        """Return a paraphrase of each instruction."""
        return [self(sentence, random) for sentence in sentences]

    def _exchanged(self, sentence: str, rows: Mapping[str, tuple[str, ...]], random: np.random.Generator) -> str:
        if not rows:
            return sentence
        longest_first = sorted(map(re.escape, rows), key=len, reverse=True)

        def choose(match: re.Match[str]) -> str:
            row = rows[match.group()]
            return row[int(random.integers(len(row)))] if random.random() < self.synonym else match.group()

        return re.sub(rf"\b(?:{'|'.join(longest_first)})\b", choose, sentence)

    def _slipped(self, word: str, protected: set[str], random: np.random.Generator) -> str:
        if (
            len(word) < 5
            or not word.isascii()
            or word in protected
            or _MEANING.fullmatch(word)
            or random.random() >= self.slip
        ):
            return word
        place = int(random.integers(1, len(word) - 2))
        return word[:place] + word[place + 1] + word[place] + word[place + 2 :]


_MEANING = re.compile(r"(?:left|right|forward|back|behind|front|above|below|under|stop|not|n't|\d).*", re.IGNORECASE)
"""Directions, numbers, stops and negations: a typing slip in one of them could change the request."""
