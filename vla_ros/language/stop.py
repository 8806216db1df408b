"""Stop detection: recognizes an instruction to stop at once, but not a task that merely contains such a word.

A clause is a stop when its main verb is a stop verb: only courtesy, modal verbs, adverbs, the addressee and the like
may precede it, anything may follow. When in doubt, it is a stop. A clause that defers the stop ("..., then stop") is
not one, nor is a stop word inside a clause about something else ("next to the bus stop").
"""

from __future__ import annotations

import re
import unicodedata

from vla_ros.language.tokenizer import split_words

SCANNED = 4096
"""Maximum number of characters searched: far more than an instruction may have, and bounded."""

_STOP_WORD = re.compile(
    r"(?:s+t+o+p+)+|h+a+l+t+|fre+ze+|cancel|abort|quit|pause|e-?stop|emergency|whoa"
    r"|stoppe|halte|anhalten|arr[eê]te[rz]?|fermat[ie]|fermo|detente|deténgase|detengase|стоп|стой|остановись"
)
"""A word that means stop at the beginning of a clause; panic and haste repeat letters and words."""

_STOP_STEM = re.compile(
    r"[请請快马馬上立刻即给給我你您机機器人都别別]*(?:停|止|住手)"
    r"|(?:今?すぐに?|早く|ロボット|お願い)*(?:止ま|止め|停止|とまれ|ストップ|やめ)"
    r"|(?:지금|당장|로봇)*(?:멈춰|멈추|정지|그만|중지|스톱)"
)
"""Stop words of scripts without spaces, matched at the beginning of a run of characters."""

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
"""Phrases that mean stop only as a whole."""

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
"""Words that mean stop only when the clause has no other content: "hold the cube" is a task, "para" is also "for"."""

_STOP_GERUND = frozenset({"stopping", "halting", "freezing", "pausing", "quitting", "cancelling", "canceling"})
"""Gerunds that mean stop after a word of `_ASKS_GERUND`: "would you mind stopping"."""

_ASKS_GERUND = frozenset({"mind", "about", "consider", "try", "appreciate", "suggest"})

_STOP_PAST = frozenset({"stopped", "halted", "paused", "froze", "quit"})
"""Past forms that mean stop after an "if": "I'd be glad if you stopped"."""

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
    """.split()  # noqa: SIM905 (a word list is easier to read this way)
)
"""Words that may precede the stop verb: courtesy, modal verbs, adverbs, addressees, interjections.

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
"""Phrases that may precede the stop verb."""

_MACHINE = frozenset({"robot", "arm", "gripper", "machine", "system", "thing", "motors", "motion"})
"""Nouns that may follow "the" before the stop verb: "the arm must stop"."""

_COURTESY = frozenset({"please", "pls", "plz", "kindly", "bitte"})
"""Words that make a stop word right after them a stop anywhere in a clause: "not that one please stop"."""

_PUTS_OFF = frozenset({"then", "and", "to", "afterwards", "later", "never", "not", "don't", "until", "before"})

_HINT = re.compile(
    r"st+o+p|ha+l+t|fre+z|fro+ze|cancel|abort|quit|pau?s|emergency|whoa|mov|still|wait|enough|hold"
    r"|anhalt|arr[eê]te|ferm|alto|basta|par[ae]|deten|detén|[停止住стоп]|とまれ|ストップ|やめ|멈|정지|그만|중지|스톱"
)
"""Prefilter: a text without a match is not a stop; a test keeps it consistent with the words above.

Each alternative begins with a letter that it does not repeat: otherwise ("s+t") the search takes quadratic time in a
run of that letter, in the thread that commands the arm.
"""

_RAW_HINT = re.compile(_HINT.pattern.encode(), re.IGNORECASE)

_CLAUSE_ENDS = re.compile(r"[.,;:!?\n\r()\"…。、¡¿]+|\s[-–—]+\s|—")
_APOSTROPHES = str.maketrans({"’": "'", "‘": "'", "`": "'", "ʼ": "'"})
_CONTROLS = re.compile(r"[\x00-\x09\x0b\x0c\x0e-\x1f\x7f-\x9f]")


def _invisible() -> re.Pattern[str]:
    """Return a pattern of all formatting characters (Cf), which are invisible, and combining marks (Mn, Me).

    NFKC leaves a mark only where no composed letter exists: over "stop" it can only hide the word.
    """
    found = [chr(code) for code in range(0x110000) if unicodedata.category(chr(code)) in ("Cf", "Mn", "Me")]
    return re.compile(f"[{re.escape(''.join(found))}]")


_INVISIBLE = _invisible()


def may_be_stop(raw: bytes) -> bool:
    """Return whether `raw` may contain a stop in UTF-8: a cheap prefilter without false negatives."""
    return not raw.isascii() or _RAW_HINT.search(raw) is not None


def is_stop(text: str) -> bool:
    """Return whether `text` is an instruction to stop at once; it need be neither normalized nor valid.

    Args:
        text: Received text; only its first `SCANNED` characters are searched.
    """
    beginning = text[:SCANNED]
    if not beginning.isascii():
        beginning = unicodedata.normalize("NFKC", beginning).translate(_APOSTROPHES)
        beginning = _INVISIBLE.sub("", beginning)  # otherwise they could hide a stop
    if not _HINT.search(beginning.lower()):
        return False  # nearly every text: in a flood, time spent here decides whether a stop is overwritten
    visible = _CONTROLS.sub(" ", beginning.translate(_APOSTROPHES))
    return any(_orders_stop(split_words(clause)) for clause in _CLAUSE_ENDS.split(visible))


def _orders_stop(words: list[str]) -> bool:
    """Skip the words that may precede a stop verb; return whether a stop follows."""
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
    """Return whether a stop begins at word `at`.

    Args:
        words: Words of the clause.
        at: Index to test.
        before: Words that were skipped.
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
    """Return how many words from `at` on may precede a stop verb."""
    for phrase in _FILLER_PHRASES:
        if _begins(words, at, phrase):
            return len(phrase)
    if words[at] == "the" and at + 1 < len(words) and words[at + 1] in _MACHINE:
        return 2
    return 1 if words[at] in _LEADING or _ADVERB.fullmatch(words[at]) else 0


def _asked_politely(words: list[str], at: int) -> bool:
    """Return whether, from `at` on, a courtesy word is followed by a stop word and nothing defers it."""
    for place in range(max(at, 1), len(words) - 1):
        if words[place] in _COURTESY and _STOP_WORD.fullmatch(words[place + 1]):
            return words[place - 1] not in _PUTS_OFF
    return False


def _begins(words: list[str], at: int, phrase: tuple[str, ...]) -> bool:
    return words[at] == phrase[0] and tuple(words[at : at + len(phrase)]) == phrase
