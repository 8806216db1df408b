"""Semantic parser for tabletop instructions: one act, the object to act on, and the goal.

`Command` is the meaning, independent of wording. `understand` parses it from an instruction with every synonym of the
lexicon: only the success checker of a simulated task uses it, never a policy.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from vla_ros.errors import InstructionError
from vla_ros.language.lexicon import ALL_WORDS, COLOURS, DIRECTIONS, OBJECTS, RECEPTACLES
from vla_ros.language.tokenizer import split_words


class Act(str, Enum):
    """Kind of manipulation."""

    PICK = "pick"
    PLACE = "place"
    PUSH = "push"
    STACK = "stack"


@dataclass(frozen=True)
class Command:
    """The meaning of an instruction.

    Attributes:
        act: Kind of manipulation.
        thing: Object to manipulate, (color, shape).
        goal: Target, (color, shape or receptacle), for `PLACE` and `STACK`; else None.
        direction: Direction of a `PUSH`; else None. Left is +y and forward +x of the robot's base frame.
    """

    act: Act
    thing: tuple[str, str]
    goal: tuple[str, str] | None = None
    direction: str | None = None

    def __post_init__(self) -> None:
        needs_goal = self.act in (Act.PLACE, Act.STACK)
        if needs_goal != (self.goal is not None) or (self.act is Act.PUSH) != (self.direction is not None):
            raise InstructionError(
                f"'{self.act.value}' with goal {self.goal} and direction {self.direction}: place and stack need a "
                "goal, push needs a direction, and nothing else does"
            )
        if self.direction is not None and self.direction not in DIRECTIONS:
            raise InstructionError(f"direction '{self.direction}', expected one of {sorted(DIRECTIONS)}")

    @property
    def name(self) -> str:
        """Name of the object, e.g. "red cube"."""
        return " ".join(self.thing)

    @property
    def goal_name(self) -> str:
        """Name of the goal, or ""."""
        return " ".join(self.goal) if self.goal else ""

    @property
    def key(self) -> str:
        """One-line key of the command in a recording, e.g. "place|red cube|blue bowl|"."""
        return "|".join((self.act.value, self.name, self.goal_name, self.direction or ""))

    @classmethod
    def from_key(cls, key: str) -> Command:
        """Parse the output of `key`.

        Raises:
            InstructionError: when it is not a valid key.
        """
        try:
            act, name, goal, direction = key.split("|")
            thing = _pair(name)
            return cls(Act(act), thing, _pair(goal) if goal else None, direction or None)
        except ValueError as error:
            raise InstructionError(f"'{key}' is no command: {error}") from error


def _pair(name: str) -> tuple[str, str]:
    colour, shape = name.split(" ")
    return colour, shape


def understand(text: str) -> Command:
    """Parse the instruction `text`.

    The verb is ignored: two objects mean "stack" (the second is an object) or "place" (it is a receptacle), one object
    with a direction means "push", one alone "pick".

    Raises:
        InstructionError: when it names no object, more than two, or one without its color or shape.
    """
    colour: str | None = None
    things: list[tuple[str, str]] = []
    direction: str | None = None
    for word in split_words(text):
        kind, meaning = ALL_WORDS.get(word, ("", ""))
        if kind == "colour":
            colour = meaning
        elif kind in ("object", "receptacle"):
            if colour is None:
                raise InstructionError(f"'{text}': the {word} has no colour; say for example 'the red {word}'")
            things.append((colour, meaning))
            colour = None
        elif kind == "direction":
            direction = meaning
    if colour is not None or not 1 <= len(things) <= 2 or things[0][1] in RECEPTACLES:
        raise InstructionError(
            f"'{text}' must name one object, or one and where it goes, each by a colour of {sorted(COLOURS)} and a "
            f"shape of {sorted(OBJECTS)} or, to put something into, {sorted(RECEPTACLES)}"
        )
    if len(things) == 2:
        act = Act.PLACE if things[1][1] in RECEPTACLES else Act.STACK
        return Command(act, things[0], things[1])
    return Command(Act.PUSH, things[0], None, direction) if direction else Command(Act.PICK, things[0])
