"""Other words, the same request."""

import re

import numpy as np
import pytest

from vla_ros.data.augmentation.language import FRAMES, SYNONYMS, LanguageAugmentation
from vla_ros.errors import ContractError

SENTENCES = (
    "pick up the red cube",
    "put the blue ball on top of the green cube",
    "push the yellow ball to the left",
    "stack the 2 blocks",
    "do not touch the red ball",
    "stop",
)


def meaning(sentence):
    """Undo synonyms and ways to put it by hand: what is left is what is asked for."""
    for frame in sorted(FRAMES, key=len, reverse=True):
        if match := re.fullmatch(re.escape(frame).replace(r"\{\}", "(.*)"), sentence):
            sentence = match.group(1)
            break
    for row in SYNONYMS:
        for word in sorted(row, key=len, reverse=True):
            sentence = re.sub(rf"\b{word}\b", row[0], sentence)
    return [word for word in sentence.split() if word not in ("the", "a", "an")]


@pytest.mark.parametrize("sentence", SENTENCES)
def test_the_request_stays_the_same(sentence):
    augment, random = LanguageAugmentation(1.0, 1.0, 0.5, 0.0), np.random.default_rng(0)
    found = {augment(sentence, random) for _ in range(200)}
    assert len(found) > 5
    assert {tuple(meaning(one)) for one in found} == {tuple(meaning(sentence))}


def test_slips_stay_away_from_what_matters():
    augment, random = LanguageAugmentation(0.0, 0.0, 0.0, 1.0), np.random.default_rng(0)
    found = {augment("gently push the yellow thing rightwards 12345 notwithstanding", random) for _ in range(50)}
    assert len(found) > 3
    for one in found:
        words = one.split()
        assert words[1:4] == ["push", "the", "yellow"] and words[5:7] == ["rightwards", "12345"]
        assert sorted(words[0]) == sorted("gently") and sorted(words[4]) == sorted("thing")


def test_a_seed_decides_and_zero_changes_nothing():
    augment = LanguageAugmentation()
    first = augment.batch(SENTENCES * 5, np.random.default_rng(1))
    assert augment.batch(SENTENCES * 5, np.random.default_rng(1)) == first
    assert augment.batch(SENTENCES * 5, np.random.default_rng(2)) != first
    nothing = LanguageAugmentation(0.0, 0.0, 0.0, 0.0)
    assert nothing.batch(SENTENCES, np.random.default_rng(1)) == list(SENTENCES)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"synonym": 1.5}, "0 to 1"),
        ({"slip": float("nan")}, "0 to 1"),
        ({"synonyms": (("cube", "block"), ("block", "brick"))}, "two rows"),
        ({"frames": ("please",)}, "one place"),
    ],
)
def test_settings_that_would_change_the_meaning_are_refused(settings, words):
    with pytest.raises(ContractError, match=words):
        LanguageAugmentation(**settings)


def test_slip_leaves_other_scripts_alone():
    change = LanguageAugmentation(synonym=0.0, frame=0.0, article=0.0, slip=1.0)
    assert {change("लालकेला उठाओजल्दी", np.random.default_rng(seed)) for seed in range(20)} == {"लालकेला उठाओजल्दी"}
