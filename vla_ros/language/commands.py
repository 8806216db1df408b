"""What a sentence about the table asks for: one act, the thing to act on, and where to.

`Command` is the meaning, without words. `understand` reads it from a sentence, with every synonym of the lexicon: the
judge of a simulated task uses it, a policy never does.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from vla_ros.errors import InstructionError
from vla_ros.language.lexicon import ALL_WORDS, COLOURS, DIRECTIONS, OBJECTS, RECEPTACLES
from vla_ros.language.tokenizer import split_words


class Act(str, Enum):
    """What to do with a thing."""

    PICK = "pick"
    PLACE = "place"
    PUSH = "push"
    STACK = "stack"


@dataclass(frozen=True)
class Command:
    """The meaning of a sentence.

    Attributes:
        act: What to do.
        thing: What to do it with, (colour, shape).
        goal: Where to, (colour, shape or receptacle), for `PLACE` and `STACK`; else None.
        direction: Which way, for `PUSH`; else None. Left is +y and forward +x of the robot's base frame.
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
        """Name of the thing, e.g. "red cube"."""
        return " ".join(self.thing)

    @property
    def goal_name(self) -> str:
        """Name of the goal, or ""."""
        return " ".join(self.goal) if self.goal else ""

    @property
    def key(self) -> str:
        """One line that stands for it in a recording, e.g. "place|red cube|blue bowl|"."""
        return "|".join((self.act.value, self.name, self.goal_name, self.direction or ""))

    @classmethod
    def from_key(cls, key: str) -> Command:
        """Read what `key` wrote.

        Raises:
            InstructionError: when it is no such line.
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
    """Return what `text` asks for.

    Two things make it "stack" (the second is an object) or "place" (it is a receptacle); one thing with a direction is
    "push", one alone is "pick": whatever the verb.

    Raises:
        InstructionError: when it names no thing, more than two, or one without its colour or shape.
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
