"""A sentence and its meaning agree, in canonical, taught and held-out words; and what is held out is never taught."""

from __future__ import annotations

import numpy as np
import pytest

from vla_ros.errors import InstructionError
from vla_ros.language.commands import Act, Command, understand
from vla_ros.language.lexicon import COLOURS, DIRECTIONS, OBJECTS, RECEPTACLES, SENTENCES
from vla_ros.language.phrasing import Wording, held_out_words, say, taught_words
from vla_ros.language.tokenizer import split_words

COMMANDS = [
    Command(Act.PICK, ("red", "cube")),
    Command(Act.PLACE, ("purple", "ball"), ("green", "bowl")),
    Command(Act.PLACE, ("yellow", "disc"), ("orange", "plate")),
    *(Command(Act.PUSH, ("blue", "cylinder"), None, direction) for direction in DIRECTIONS),
    Command(Act.STACK, ("green", "disc"), ("red", "cube")),
]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.key)
@pytest.mark.parametrize("wording", list(Wording))
def test_every_sentence_is_understood(command: Command, wording: Wording) -> None:
    rng = np.random.default_rng(0)
    for _ in range(60):
        assert understand(say(command, wording, rng)) == command
    assert Command.from_key(command.key) == command


def test_no_taught_sentence_has_a_held_out_word_or_phrase() -> None:
    rng = np.random.default_rng(1)
    taught = {say(command, Wording.TAUGHT, rng) for command in COMMANDS for _ in range(300)}
    words = {word for sentence in taught for word in split_words(sentence)}
    assert words <= set(taught_words()) and not words & set(held_out_words())
    held_out = {say(command, Wording.HELD_OUT, rng) for command in COMMANDS for _ in range(300)}
    assert not taught & held_out
    for table in (COLOURS, OBJECTS, RECEPTACLES, SENTENCES):
        for name, ways in table.items():
            assert ways.taught and ways.held_out and not set(ways.taught) & set(ways.held_out), name


def test_every_held_out_sentence_names_its_thing_in_words_that_were_never_taught() -> None:
    rng = np.random.default_rng(2)
    for command in COMMANDS:
        for _ in range(50):
            words = split_words(say(command, Wording.HELD_OUT, rng))
            assert not set(words) & {command.thing[0], command.thing[1]}


def test_the_example_of_the_goal_is_held_out() -> None:
    assert understand("grab the crimson block") == Command(Act.PICK, ("red", "cube"))
    assert {"grab", "crimson", "block"} <= set(held_out_words())


@pytest.mark.parametrize(
    "sentence",
    [
        "dance",
        "pick up the cube",
        "pick up the red",
        "pick up the blue bowl",
        "put the red cube, the blue cube in the green bowl",
        "push left",
    ],
)
def test_what_is_not_one_command_is_refused(sentence: str) -> None:
    with pytest.raises(InstructionError):
        understand(sentence)


@pytest.mark.parametrize(
    "parts",
    [
        (Act.PICK, ("red", "cube"), ("blue", "bowl"), None),
        (Act.PLACE, ("red", "cube"), None, None),
        (Act.PUSH, ("red", "cube"), None, None),
        (Act.PUSH, ("red", "cube"), None, "up"),
    ],
)
def test_a_command_without_its_parts_is_refused(parts: tuple) -> None:
    with pytest.raises(InstructionError):
        Command(*parts)


def test_words_are_drawn_only_with_a_generator() -> None:
    with pytest.raises(ValueError, match="give it a generator"):
        say(COMMANDS[0], Wording.TAUGHT)
    with pytest.raises(InstructionError, match="is no command"):
        Command.from_key("pick|red cube")
