"""Recognizes an order to stop at once, and leaves alone a task in which such a word only occurs.

A clause orders a stop when its main verb is a stop verb: nothing but courtesy, modal verbs, adverbs, the addressee and
the like stands before it, and anything may follow. In doubt it stops. A clause that puts the stop off ("..., then
stop") is no order, and neither is a stop word inside a clause about something else ("next to the bus stop").
"""

from __future__ import annotations

import re
import unicodedata

from vla_ros.language.tokenizer import split_words

SCANNED = 4096
"""How much of a text is looked at, characters: far more than an instruction may have, and bounded."""

_STOP_WORD = re.compile(
    r"(?:s+t+o+p+)+|h+a+l+t+|fre+ze+|cancel|abort|quit|pause|e-?stop|emergency|whoa"
    r"|stoppe|halte|anhalten|arr[eê]te[rz]?|fermat[ie]|fermo|detente|deténgase|detengase|стоп|стой|остановись"
)
"""One word that orders a stop where a clause begins; fear and haste repeat letters and words."""

_STOP_STEM = re.compile(
    r"[请請快马馬上立刻即给給我你您机機器人都别別]*(?:停|止|住手)"
    r"|(?:今?すぐに?|早く|ロボット|お願い)*(?:止ま|止め|停止|とまれ|ストップ|やめ)"
    r"|(?:지금|당장|로봇)*(?:멈춰|멈추|정지|그만|중지|스톱)"
)
"""The same for writing without spaces between words: what the first run of characters begins with."""

_STOP_PHRASES = (
    ("e", "stop"),
    ("do", "not", "move"),
    ("not", "move"),
    ("don't", "move"),
    ("dont", "move"),
    ("hold", "still"),
    ("stand", "still"),
    ("stay", "still"),
    ("keep", "still"),
    ("mind", "not", "moving"),
    ("stai", "fermo"),
)
"""Words that order a stop only together."""

_STOP_ALONE = (
    ("wait",),
    ("enough",),
    ("hold", "it"),
    ("hold", "on"),
    ("hold", "position"),
    ("hold",),
    ("alto",),
    ("basta",),
    ("para",),
    ("pare",),
)
"""Words that order a stop when a clause holds nothing else: "hold the cube" is a task, "para" is also "for"."""

_STOP_GERUND = frozenset({"stopping", "halting", "freezing", "pausing", "quitting", "cancelling", "canceling"})
"""Orders after an `_ASKS_GERUND`: "would you mind stopping"."""

_ASKS_GERUND = frozenset({"mind", "about", "consider", "try", "appreciate", "suggest"})

_STOP_PAST = frozenset({"stopped", "halted", "paused", "froze", "quit"})
"""Orders after an "if": "I'd be glad if you stopped"."""

_LEADING = frozenset(
    """
    please pls plz kindly politely just now right away straight once at immediately instantly quick quickly asap really
    promptly simply quite maybe perhaps possibly possible better best again already finally also still actually only
    ok okay well so but no nope hey hi hello oh ah ow ouch god gosh jesus christ lord goodness goodness' man my sake
    for heaven's god's sorry excuse thanks thank um uh er listen look hurry
    all everything everyone everybody anyone anybody someone somebody folks guys people team full dead sir madam mate
    dear buddy robot robots arm gripper machine system it this that thing
    i i'd i'll i'm i've id we we'd we'll you you'd you'll you're y'all me us he she they
    do does did can could would will shall should may might must ought need needs needed have has had got gotta go
    want wants wanted like love prefer wish hope ask asking beg begging order ordering command commanding tell telling
    told said say saying demand demanding insist insisting request requesting require suggest think guess believe
    mind about consider try appreciate let let's lets make get am is are be was it's that's there there's way time how
    why what if to of kind nice good great glad happy enough grateful as supposed going able bring come ahead
    can't couldn't won't wouldn't shouldn't would've very much too
    bitte jetzt sofort por favor ya s'il te vous plaît plait per prego subito ahora
    """.split()  # noqa: SIM905 (a list of words, as it is read)
)
"""Words that may precede the order without changing it: courtesy, modal verbs, adverbs, addressees, interjections.

None of them is an action of a robot ("move", "pick") or a negation ("not", "never"), which end the search.
"""

_ADVERB = re.compile(r"[a-z]{2,}ly")

_FILLER_PHRASES = (
    ("go", "ahead", "and"),
    ("do", "me", "a", "favor", "and"),
    ("do", "me", "a", "favour", "and"),
    ("be", "so", "kind", "and"),
    ("hurry", "up", "and"),
    ("come", "on"),
    ("come", "to", "a"),
    ("on", "earth"),
    ("in", "god's", "name"),
    ("the", "hell"),
)
"""Likewise, only together."""

_MACHINE = frozenset({"robot", "arm", "gripper", "machine", "system", "thing", "motors", "motion"})
"""What "the" may belong to before the order: "the arm must stop"."""

_COURTESY = frozenset({"please", "pls", "plz", "kindly", "bitte"})
"""Right before a stop word these make an order of it wherever in a clause they stand: "not that one please stop"."""

_PUTS_OFF = frozenset({"then", "and", "to", "afterwards", "later", "never", "not", "don't", "until", "before"})

_HINT = re.compile(
    r"st+o+p|ha+l+t|fre+z|fro+ze|cancel|abort|quit|pau?s|emergency|whoa|mov|still|wait|enough|hold"
    r"|anhalt|arr[eê]te|ferm|alto|basta|par[ae]|deten|detén|[停止住стоп]|とまれ|ストップ|やめ|멈|정지|그만|중지|스톱"
)
"""A text without any of these orders no stop; a test holds it to the words above.

Each alternative begins with a letter that it does not repeat: one that does ("s+t") takes a time that grows with the
square of a run of that letter, in the thread that commands the arm.
"""

_RAW_HINT = re.compile(_HINT.pattern.encode(), re.IGNORECASE)

_CLAUSE_ENDS = re.compile(r"[.,;:!?\n\r()\"…。、¡¿]+|\s[-–—]+\s|—")
_APOSTROPHES = str.maketrans({"’": "'", "‘": "'", "`": "'", "ʼ": "'"})
_CONTROLS = re.compile(r"[\x00-\x09\x0b\x0c\x0e-\x1f\x7f-\x9f]")


def _invisible() -> re.Pattern[str]:
    """Return a pattern of all formatting characters (Cf), none of which is seen, and of marks on letters (Mn, Me).

    After NFKC a mark is left only where no letter is written with it: over "stop" it can only hide the word.
    """
    found = [chr(code) for code in range(0x110000) if unicodedata.category(chr(code)) in ("Cf", "Mn", "Me")]
    return re.compile(f"[{re.escape(''.join(found))}]")


_INVISIBLE = _invisible()


def may_be_stop(raw: bytes) -> bool:
    """Say whether UTF-8 text somewhere in `raw` may order a stop: cheap, and never wrong when it says no."""
    return not raw.isascii() or _RAW_HINT.search(raw) is not None


def is_stop(text: str) -> bool:
    """Say whether `text` orders an immediate stop; it need not be normalized or valid, only its beginning counts.

    Args:
        text: What was received; `SCANNED` characters of it are read.
    """
    beginning = text[:SCANNED]
    if not beginning.isascii():
        beginning = unicodedata.normalize("NFKC", beginning).translate(_APOSTROPHES)
        beginning = _INVISIBLE.sub("", beginning)  # none of them can hide a stop
    if not _HINT.search(beginning.lower()):
        return False  # nearly every text: in a flood the time spent here decides whether a stop is overwritten
    visible = _CONTROLS.sub(" ", beginning.translate(_APOSTROPHES))
    return any(_orders_stop(split_words(clause)) for clause in _CLAUSE_ENDS.split(visible))


def _orders_stop(words: list[str]) -> bool:
    """Skip what may precede the order, and say whether a stop comes next."""
    at, before = 0, set[str]()
    rest = {word for word in words if word not in _LEADING}
    while at < len(words):
        if _stops_at(words, at, before, rest):
            return True
        step = _filler(words, at)
        if not step:
            return _asked_politely(words, at)
        before.update(words[at : at + step])
        at += step
    return False


def _stops_at(words: list[str], at: int, before: set[str], rest: set[str]) -> bool:
    """Say whether the words from `at` on begin with a stop.

    Args:
        words: Of a clause.
        at: Where to look.
        before: The words that were skipped.
        rest: Words of the whole clause that cannot be skipped.
    """
    word = words[at]
    if _STOP_WORD.fullmatch(word) or word.startswith(("stop-", "halt-", "emergency-")) or _STOP_STEM.match(word):
        return True
    if any(_begins(words, at, phrase) for phrase in _STOP_PHRASES):
        return True
    if word in _STOP_GERUND and before & _ASKS_GERUND:
        return True
    if word in _STOP_PAST and "if" in before:
        return True
    return any(_begins(words, at, phrase) and rest <= {*phrase} for phrase in _STOP_ALONE)


def _filler(words: list[str], at: int) -> int:
    """Return how many words at `at` may precede an order."""
    for phrase in _FILLER_PHRASES:
        if _begins(words, at, phrase):
            return len(phrase)
    if words[at] == "the" and at + 1 < len(words) and words[at + 1] in _MACHINE:
        return 2
    return 1 if words[at] in _LEADING or _ADVERB.fullmatch(words[at]) else 0


def _asked_politely(words: list[str], at: int) -> bool:
    """Say whether somewhere from `at` on a courtesy is followed by a stop, and nothing puts it off."""
    for place in range(max(at, 1), len(words) - 1):
        if words[place] in _COURTESY and _STOP_WORD.fullmatch(words[place + 1]):
            return words[place - 1] not in _PUTS_OFF
    return False


def _begins(words: list[str], at: int, phrase: tuple[str, ...]) -> bool:
    return words[at] == phrase[0] and tuple(words[at : at + len(phrase)]) == phrase
