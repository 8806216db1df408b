"""Words are described by what others know of them: near in meaning is near in the table, and colours have their hue."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vla_ros.models.layers.sentences import COLOUR_COLUMNS
from vla_ros.training.datasets.word_vectors import colour_of, common_words, describe_words

WORDS = ["cube", "ball", "cylinder", "plate", "push", "sphere", "brick", "platter", "shove", "crimson", "red", "blue"]


@pytest.fixture(scope="module")
def table() -> torch.Tensor:
    pytest.importorskip("transformers")
    return describe_words(WORDS, 16)


@pytest.mark.parametrize(("word", "like"), [("sphere", "ball"), ("platter", "plate"), ("shove", "push")])
def test_words_of_one_meaning_are_near(table: torch.Tensor, word: str, like: str) -> None:
    rows = torch.nn.functional.normalize(table[2:7, :-COLOUR_COLUMNS], dim=1)  # cube, ball, cylinder, plate, push
    one = torch.nn.functional.normalize(table[2 + WORDS.index(word), :-COLOUR_COLUMNS], dim=0)
    assert WORDS[int((rows @ one).argmax())] == like


def test_padding_and_unknown_words_are_nothing_and_a_description_repeats(table: torch.Tensor) -> None:
    assert table.shape == (2 + len(WORDS), 16) and not bool(table[:2].any())
    torch.testing.assert_close(describe_words(WORDS, 16).abs(), table.abs(), rtol=1e-3, atol=1e-3)


def test_names_of_colours_have_their_hue() -> None:
    crimson, red, blue = (np.array(colour_of(word)) for word in ("crimson", "red", "blue"))
    assert crimson[1:3] @ red[1:3] > 0.9 > blue[1:3] @ red[1:3]
    assert np.linalg.norm(red[1:3]) == pytest.approx(1.0)
    assert colour_of("cube") == (0.0, 0.0, 0.0, 0.0)


def test_the_vocabulary_is_whole_words_only() -> None:
    pytest.importorskip("transformers")
    words = common_words()
    assert len(words) > 20_000 and words == sorted(set(words)) and all(word.isalpha() for word in words)
    assert {"crimson", "block", "bowl"} <= set(words)
