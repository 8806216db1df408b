"""Generation of instructions for a command: canonical, or in training or held-out wording."""

from __future__ import annotations

from enum import Enum

import numpy as np

from vla_ros.language.commands import Command
from vla_ros.language.lexicon import COLOURS, DIRECTIONS, OBJECTS, PREPOSITIONS, RECEPTACLES, SENTENCES


class Wording(str, Enum):
    """Wording of a generated instruction."""

    CANONICAL = "canonical"
    TAUGHT = "taught"
    HELD_OUT = "held_out"


def say(command: Command, wording: Wording = Wording.CANONICAL, rng: np.random.Generator | None = None) -> str:
    """Return an instruction for `command`.

    Args:
        command: Meaning of the instruction.
        wording: Canonical: always the same sentence. Taught and held out: sampled with `rng`; held out takes sentence,
            colors, shapes and directions only from the lists that no training instruction uses.
        rng: Random generator.

    Raises:
        ValueError: when the wording is sampled and `rng` is None.
    """
    if wording is not Wording.CANONICAL and rng is None:
        raise ValueError(f"wording '{wording.value}' is drawn at random: give it a generator")
    held_out = wording is Wording.HELD_OUT

    def choose(options: tuple[str, ...]) -> str:
        return options[0] if rng is None or wording is Wording.CANONICAL else options[int(rng.integers(len(options)))]

    def named(thing: tuple[str, str]) -> str:
        shapes = OBJECTS | RECEPTACLES  # type: ignore[operator]
        return f"{choose(COLOURS[thing[0]].choose(held_out))} {choose(shapes[thing[1]].choose(held_out))}"

    template = choose(SENTENCES[command.act.value].choose(held_out))
    inside, into = PREPOSITIONS.get(command.goal[1], ("on", "onto")) if command.goal else ("", "")
    return template.format(
        a=named(command.thing),
        b=named(command.goal) if command.goal else "",
        d=choose(DIRECTIONS[command.direction].choose(held_out)) if command.direction else "",
        **{"in": inside, "into": into},
    )


def taught_words() -> tuple[str, ...]:
    """Return every word that can occur in a training instruction, sorted."""
    return _words(held_out=False)


def held_out_words() -> tuple[str, ...]:
    """Return the words of held-out instructions that occur in no training instruction, sorted."""
    return tuple(sorted(set(_words(held_out=True)) - set(_words(held_out=False))))


def _words(held_out: bool) -> tuple[str, ...]:
    from vla_ros.language.tokenizer import split_words

    tables = (COLOURS, OBJECTS, RECEPTACLES, DIRECTIONS, SENTENCES)
    phrases = [phrase for table in tables for words in table.values() for phrase in words.choose(held_out)]
    fixed = [word for pair in PREPOSITIONS.values() for word in pair]
    blank = dict.fromkeys(("a", "b", "d", "in", "into"), "")
    return tuple(sorted({word for phrase in (*phrases, *fixed) for word in split_words(phrase.format(**blank))}))
