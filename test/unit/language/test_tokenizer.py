import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_ros.errors import InstructionError
from vla_ros.language.tokenizer import PAD, UNKNOWN, WordTokenizer, split_words

TOKENIZER = WordTokenizer(("pick", "up", "the", "red", "cube"))


def test_words_are_lower_case_and_without_punctuation():
    assert split_words("Pick-up the_RED cube, don't drop it!") == [
        "pick-up",
        "the",
        "red",
        "cube",
        "don't",
        "drop",
        "it",
    ]


@pytest.mark.parametrize(
    ("one", "other"),
    [("केला", "काला"), ("กี่", "กา"), ("कि", "की"), ("कु", "क")],  # banana and black, and others that differ by marks
)
def test_split_words_keeps_combining_marks(one, other):
    assert split_words(one) == [one] and split_words(other) == [other]
    tokenizer = WordTokenizer((one, other))
    assert tokenizer.encode(f"{one} {other}", 2).tolist() == [2, 3]


def test_split_words_composes():
    assert split_words("Cafe\N{COMBINING ACUTE ACCENT}") == ["caf\u00e9"] == split_words("CAFÉ")
    assert split_words("\N{COMBINING ACUTE ACCENT} ❤\ufe0f red") == ["red"]


def test_tokens_are_places_in_the_vocabulary_padded_to_length():
    tokens = TOKENIZER.encode("Pick up the GREEN cube.", 7)
    assert tokens.dtype == np.int64
    assert tokens.tolist() == [2, 3, 4, UNKNOWN, 6, PAD, PAD]


def test_as_many_words_as_fit_are_read_and_one_more_is_refused_with_both_numbers():
    assert TOKENIZER.encode("red " * 4, 4).tolist() == [5] * 4
    with pytest.raises(InstructionError, match=r"has 5 words, the policy reads at most 4"):
        TOKENIZER.encode("red " * 5, 4)


def test_unknown_words_are_named_in_order():
    assert TOKENIZER.unknown("please pick the Green cube") == ["please", "green"]
    assert TOKENIZER.unknown("pick up the red cube") == []


def test_size_counts_padding_and_unknown():
    assert TOKENIZER.size == 7


def test_a_vocabulary_that_names_a_word_twice_is_refused():
    with pytest.raises(ValueError, match="twice"):
        WordTokenizer(("red", "blue", "red"))


@given(st.lists(st.text("abcdefgh", min_size=1), unique=True, max_size=20))
def test_the_vocabulary_survives_a_file_and_decodes_what_it_encodes(words):
    tokenizer = WordTokenizer.from_dict(json.loads(json.dumps(WordTokenizer(tuple(words)).to_dict())))
    assert tokenizer == WordTokenizer(tuple(words))
    tokens = tokenizer.encode(" ".join(words), len(words) + 1)
    assert [tokenizer.words[token - 2] for token in tokens[:-1]] == words
    assert tokens.max(initial=0) < tokenizer.size
