"""Validation and normalization of received instructions; errors say what to do instead."""

from __future__ import annotations

import unicodedata

from vla_ros.errors import InstructionError
from vla_ros.language.tokenizer import JOINERS, split_words

MAX_BYTES = 512
"""Maximum length of an instruction in UTF-8, bytes; Instruction.msg holds no more."""

QUOTED = 40
"""Maximum length of the quotation of a rejected instruction in an error, characters."""

REPLACEMENT = "�"
"""Replacement character that a decoder inserts for bytes that are not UTF-8."""

_BLANK_CONTROLS = "\t\n\v\f\r"
"""Control characters that count as whitespace: a line from a terminal or a file ends with one."""

_JOINING_SCRIPTS = (("\u0600", "\u08ff"), ("\u0900", "\u0dff"), ("\u1000", "\u109f"), ("\u1780", "\u18af"))
"""Unicode ranges of Arabic and related scripts, Brahmic scripts (Devanagari to Sinhala), Myanmar, Khmer, Mongolian."""

_REFUSED_CATEGORIES = {
    "Cc": "control character",
    "Cf": "invisible formatting character",
    "Cs": "half of a surrogate pair",
    "Co": "private character",
    "Cn": "unassigned character",
}


def _joins(text: str, place: int) -> bool:
    """Return whether the character at `place` is a joiner inside a word of a script that is spelled with joiners.

    Anywhere else it is invisible: between Latin letters it would make a different word that looks the same.
    """
    if text[place] not in JOINERS or not 0 < place < len(text) - 1:
        return False
    return all(unicodedata.category(one)[0] in "LM" and _is_joining(one) for one in text[place - 1 : place + 2 : 2])


def _is_joining(letter: str) -> bool:
    return any(first <= letter <= last for first, last in _JOINING_SCRIPTS)


def normalize_instruction(text: object) -> str:
    """Normalize `text` to NFKC, lower case and single spaces between words; idempotent.

    Args:
        text: Received instruction, at most `MAX_BYTES` bytes of UTF-8 before and after.

    Raises:
        InstructionError: when it is not a str, is empty or has no word, is too long, or holds invisible characters or
            replacements for bytes that were not UTF-8. Joiners (U+200C, U+200D) between letters of a script that is
            spelled with them are part of the word.
    """
    if not isinstance(text, str):
        raise InstructionError(f"instruction is of type {type(text).__name__}, expected str; send a sentence")
    _check_size(text)  # first: the cost of the rest grows with the length
    _check_characters(text)
    # Twice: "H" with a line below is two characters in NFKC, "h" with a line below is one.
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).lower())
    sentence = " ".join(folded.split())
    if not split_words(sentence):
        raise InstructionError(
            f"instruction {quoted(text)} is empty, expected at least one word; send one such as 'pick up the red cube'"
        )
    _check_size(sentence)  # NFKC can turn one character into eighteen
    return sentence


def quoted(text: str) -> str:
    """Return the beginning of `text` in quotes, non-printable characters escaped."""
    return repr(text) if len(text) <= QUOTED else f"{text[:QUOTED]!r}..."


def _check_size(text: str) -> None:
    # The encoder must accept lone surrogates: `_check_characters` rejects them by name.
    size = len(text) if len(text) > MAX_BYTES else len(text.encode("utf-8", "surrogatepass"))
    if size > MAX_BYTES:
        raise InstructionError(
            f"instruction {quoted(text)} has at least {size} bytes, expected at most {MAX_BYTES}; "
            "send a shorter sentence"
        )


def _check_characters(text: str) -> None:
    if text.isascii() and text.isprintable():
        return
    for place, character in enumerate(text):
        if character == REPLACEMENT:
            raise InstructionError(
                f"instruction {quoted(text)} was not UTF-8 (at character {place}), expected UTF-8; encode it as UTF-8"
            )
        what = _REFUSED_CATEGORIES.get(unicodedata.category(character))
        if what is not None and character not in _BLANK_CONTROLS and not _joins(text, place):
            raise InstructionError(
                f"instruction {quoted(text)} has a {what} (U+{ord(character):04X}) at character {place}, expected "
                "visible text; remove it"
            )
