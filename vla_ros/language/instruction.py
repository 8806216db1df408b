"""Validates and normalises what people (and whatever else finds the topic) send as an instruction."""

from __future__ import annotations

import re
import unicodedata

from vla_ros.errors import InstructionError

MAX_BYTES = 512
"""Longest instruction, in bytes of UTF-8, before and after normalisation; the message has room for no more."""

_REPLACEMENT = "\ufffd"
"""What a decoder leaves where bytes were not UTF-8."""

_SPACES = re.compile(r"\s+")
_WORD = re.compile(r"[^\W_]")


def normalise_instruction(text: object) -> str:
    """Return the sentence in lower case, in Unicode's compatibility form (NFKC), with single spaces.

    Normalising again changes nothing. Tabs and line breaks count as spaces; every other control or invisible character
    is refused: it would be a different sentence to the policy than to the person who reads the log.

    Raises:
        InstructionError: when it is no text, not UTF-8, over `MAX_BYTES`, holds control characters, or has no word.
    """
    if not isinstance(text, str):
        raise InstructionError(f"got {type(text).__name__}, expected a text; send a sentence such as 'pick up the cube'")
    _check_size(text)  # first: normalising can make a text 18 times longer
    if _REPLACEMENT in text:
        raise InstructionError("the instruction is not UTF-8; send it in that encoding")
    _check_characters(_SPACES.sub(" ", text) if text.isprintable() else _collapse(text))
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).lower())
    sentence = _SPACES.sub(" ", folded).strip()
    if not _WORD.search(sentence):
        raise InstructionError("the instruction has no word in it; send a sentence such as 'pick up the cube'")
    _check_size(sentence)
    return sentence
