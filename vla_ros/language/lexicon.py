"""Words and sentences about the tabletop: those used in training, and those held out for evaluation.

Nothing in a `held_out` list ever occurs in a training instruction. The held-out lists were chosen before anything was
trained; the training lists were extended afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Words:
    """Synonyms of one concept: `taught` (used in training, the canonical one first) and `held_out`."""

    taught: tuple[str, ...]
    held_out: tuple[str, ...]

    def choose(self, held_out: bool) -> tuple[str, ...]:
        """Return the held-out or the training list."""
        return self.held_out if held_out else self.taught


COLOURS: Mapping[str, Words] = {
    "red": Words(("red", "scarlet", "ruby"), ("crimson",)),
    "green": Words(("green", "emerald"), ("jade",)),
    "blue": Words(("blue", "azure", "navy"), ("cobalt",)),
    "yellow": Words(("yellow", "lemon"), ("golden",)),
    "orange": Words(("orange", "apricot"), ("tangerine",)),
    "purple": Words(("purple", "violet", "grape"), ("plum",)),
}

OBJECTS: Mapping[str, Words] = {
    "cube": Words(("cube", "brick", "box"), ("block",)),
    "ball": Words(("ball", "sphere", "marble"), ("orb",)),
    "cylinder": Words(("cylinder", "tube", "pillar"), ("column",)),
    "disc": Words(("disc", "puck", "coin"), ("disk",)),
}

RECEPTACLES: Mapping[str, Words] = {
    "bowl": Words(("bowl", "basin", "bucket", "container"), ("pot",)),
    "plate": Words(("plate", "platter"), ("tray",)),
}

DIRECTIONS: Mapping[str, Words] = {
    "left": Words(("left", "to the left"), ("to your left",)),
    "right": Words(("right", "to the right"), ("to your right",)),
    "forward": Words(("forward", "away from you"), ("ahead",)),
    "back": Words(("back", "backward", "towards you"), ("backwards",)),
}
"""Directions in the robot's base frame: left is +y, forward is +x."""

SENTENCES: Mapping[str, Words] = {
    "pick": Words(
        (
            "pick up the {a}",
            "pick the {a}",
            "pick the {a} up",
            "take the {a}",
            "lift the {a}",
            "lift up the {a}",
            "get the {a}",
            "fetch the {a}",
            "give me the {a}",
            "i need the {a}",
            "go and get the {a}",
            "could you pick up the {a}",
            "pick up the {a} from the table",
            "take the {a} off the table",
        ),
        ("grab the {a}", "grasp the {a}", "raise the {a}", "please collect the {a}"),
    ),
    "place": Words(
        (
            "put the {a} {in} the {b}",
            "place the {a} {in} the {b}",
            "move the {a} {into} the {b}",
            "drop the {a} {into} the {b}",
            "take the {a} and put it {in} the {b}",
            "carry the {a} to the {b}",
            "move the {a} over to the {b}",
            "put the {a} down {in} the {b}",
            "leave the {a} {in} the {b}",
            "pick up the {a} and drop it {into} the {b}",
        ),
        ("set the {a} down {in} the {b}", "lay the {a} {in} the {b}", "bring the {a} over to the {b}"),
    ),
    "push": Words(
        (
            "push the {a} {d}",
            "slide the {a} {d}",
            "move the {a} {d}",
            "nudge the {a} {d}",
            "push the {a} a bit {d}",
            "give the {a} a push {d}",
        ),
        ("shove the {a} {d}", "shift the {a} {d}"),
    ),
    "stack": Words(
        (
            "stack the {a} on the {b}",
            "stack the {a} on top of the {b}",
            "pile the {a} on the {b}",
            "put the {a} on top of the {b}",
            "put the {a} on the {b}",
            "make a stack of the {a} on the {b}",
            "make a pile with the {a} on top of the {b}",
            "rest the {a} on the {b}",
            "place the {a} on top of the {b}",
        ),
        ("set the {a} onto the {b}", "balance the {a} on the {b}", "build a tower with the {a} on the {b}"),
    ),
}
"""Sentence templates: {a} the object, {b} the goal, {d} the direction, {in} and {into} from `PREPOSITIONS`."""

PREPOSITIONS: Mapping[str, tuple[str, str]] = {"bowl": ("in", "into"), "plate": ("on", "onto")}
"""Prepositions of each receptacle, for {in} and {into}."""

_DIRECTION_WORDS = {
    "left": "left",
    "leftward": "left",
    "right": "right",
    "rightward": "right",
    "forward": "forward",
    "forwards": "forward",
    "ahead": "forward",
    "away": "forward",
    "back": "back",
    "backward": "back",
    "backwards": "back",
    "towards": "back",
    "toward": "back",
}

ALL_WORDS: Mapping[str, tuple[str, str]] = {
    **{w: ("colour", name) for name, words in COLOURS.items() for w in (*words.taught, *words.held_out)},
    **{w: ("object", name) for name, words in OBJECTS.items() for w in (*words.taught, *words.held_out)},
    **{w: ("receptacle", name) for name, words in RECEPTACLES.items() for w in (*words.taught, *words.held_out)},
    **{w: ("direction", name) for w, name in _DIRECTION_WORDS.items()},
}
"""Every word that carries meaning, to (part of speech such as "colour", meaning)."""
