"""Recognises an order to stop at once, and leaves alone a task in which such a word only occurs.

In doubt it stops: a clause that begins with a stop word is an order, whatever follows it. A clause that puts the stop
off ("..., then stop") is not, and neither is a stop word inside a clause ("next to the bus stop").
"""

from __future__ import annotations

import re
import unicodedata

from vla_ros.language.tokenizer import split_words

SCANNED = 4096
"""How much of a text is looked at, characters: far more than an instruction may have, and bounded."""

_STOP_WORD = re.compile(
    r"(?:s+t+o+p+)+|h+a+l+t+|fre+ze+|cancel|abort|quit|pause|e-?stop|emergency|whoa"
    r"|alto|arr[eê]te[rz]?|fermati|basta|стоп|停(?:止|下)?|止まれ"
)
"""One word that orders a stop where a clause begins; fear and haste repeat letters and words."""

_STOP_PHRASES = (
    ("e", "stop"),
    ("do", "not", "move"),
    ("don't", "move"),
    ("dont", "move"),
    ("hold", "still"),
    ("stand", "still"),
    ("stay", "still"),
    ("keep", "still"),
    ("mind", "stopping"),
    ("mind", "not", "moving"),
)
"""Words that order a stop only together."""

_STOP_ALONE = (("wait",), ("enough",), ("hold", "it"), ("hold", "on"), ("hold", "position"), ("hold",))
"""Words that order a stop when a clause holds nothing else: "hold the cube" is a task."""

_LEADING = frozenset({
    "all", "everything", "full", "please", "now", "no", "ok", "okay", "hey", "oh", "god", "ah", "robot", "arm", "you",
    "just", "immediately",
    "quick", "quickly", "must", "should", "can", "could", "would", "will", "i", "said", "want", "need", "to", "make",
    "it", "pls", "plz", "kindly", "politely", "simply", "maybe", "perhaps", "actually", "really", "quite", "may",
    "might", "shall", "ought", "have", "got", "gotta", "better", "had", "would've", "like", "love", "prefer", "wish",
    "i'd", "i'll", "i'm", "id", "you'd", "you'll", "we", "we'd", "us", "let", "let's", "lets", "me", "ask", "asking",
    "beg", "begging", "tell", "telling", "am", "be", "so", "if", "everybody", "everyone", "somebody", "someone", "sir",
    "hello", "excuse", "sorry", "well", "hurry", "right", "straight", "away", "try", "go", "ahead", "for", "heaven's",
    "god's", "goodness'", "sake",
})  # fmt: skip
"""Words that may precede the order without changing it."""

_MACHINE = frozenset({"robot", "arm", "gripper"})
"""What "the" may belong to before the order: "the arm must stop"."""

_HINT = re.compile(
    r"s+t+o+p|h+a+l+t|fre+ze|cancel|abort|quit|pause|emergency|whoa|mov|still|wait|enough|hold|alto|arrete|fermati|basta"
)
"""A text without any of these orders no stop; a test holds it to the words above."""

_CLAUSE_ENDS = re.compile(r"[.,;:!?\n\r()\"…]+|\s[-–—]+\s|—")
_APOSTROPHES = str.maketrans({"’": "'", "‘": "'", "`": "'", "ʼ": "'"})


_RAW_HINT = re.compile(_HINT.pattern.encode(), re.IGNORECASE)


def may_be_stop(raw: bytes) -> bool:
    """Say whether UTF-8 text somewhere in `raw` may order a stop: cheap, and never wrong when it says no."""
    return not raw.isascii() or _RAW_HINT.search(raw) is not None


def is_stop(text: str) -> bool:
    """Say whether `text` orders an immediate stop; it need not be normalised or valid, only its beginning counts.

    Args:
        text: What was received; `SCANNED` characters of it are read.
    """
    beginning = text[:SCANNED]
    if beginning.isascii() and not _HINT.search(beginning.lower()):
        return False  # nearly every text: in a flood the time spent here decides whether a stop is overwritten
    visible = unicodedata.normalize("NFKC", beginning).translate(_APOSTROPHES)
    # Invisible characters vanish, so that none can hide a stop; control characters separate words.
    visible = "".join(_visible(character) for character in visible)
    return any(_orders_stop(split_words(clause)) for clause in _CLAUSE_ENDS.split(visible))


def _visible(character: str) -> str:
    if character in "\n\r":
        return character
    category = unicodedata.category(character)
    return "" if category == "Cf" else " " if category == "Cc" else character


def _orders_stop(words: list[str]) -> bool:
    while words:
        if _STOP_WORD.fullmatch(words[0]) or words[0].startswith(("stop-", "halt-", "emergency-")):
            return True
        if any(_begins(words, phrase) for phrase in _STOP_PHRASES):
            return True
        if any(_begins(words, phrase) and _LEADING.issuperset({*words} - {*phrase}) for phrase in _STOP_ALONE):
            return True
        if words[0] == "the" and _MACHINE.issuperset(words[1:2]):
            words = words[2:]
        elif words[0] in _LEADING:
            words = words[1:]
        else:
            return False
    return False


def _begins(words: list[str], phrase: tuple[str, ...]) -> bool:
    return tuple(words[: len(phrase)]) == phrase
