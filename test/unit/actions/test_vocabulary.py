"""Names of symbolic actions to ids and back; a wrong word is an error, never -1."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_ros.actions.vocabulary import SYMBOLIC_ACTIONS, SymbolicVocabulary
from vla_ros.errors import ContractError, InstructionError

VOCABULARY = SymbolicVocabulary()


def test_ids_by_hand():
    few = SymbolicVocabulary(("navigate_to", "pick_up", "place_at", "open", "close"))
    assert few.tokenise_plan(["open", "pick_up", "place_at", "close"]) == [3, 1, 2, 4]
    assert len(few) == 5
    assert {"navigate_to", "pick_up", "place_at", "open", "close"} <= set(SYMBOLIC_ACTIONS)


@given(st.lists(st.sampled_from(SYMBOLIC_ACTIONS)))
def test_a_plan_comes_back(names):
    assert VOCABULARY.detokenise_plan(VOCABULARY.tokenise_plan(names)) == names


@given(st.integers(0, len(SYMBOLIC_ACTIONS) - 1))
def test_an_id_comes_back(token):
    assert VOCABULARY.tokenize(VOCABULARY.detokenize(token)) == token


@given(st.text())
def test_no_other_text_has_an_id(text):
    if text not in SYMBOLIC_ACTIONS:
        with pytest.raises(InstructionError):
            VOCABULARY.tokenize(text)


def test_an_unknown_word_gets_near_ones():
    with pytest.raises(InstructionError, match=r"no action 'pick_upp'.*'pick_up'"):
        VOCABULARY.tokenize("pick_upp")


@pytest.mark.parametrize("token", [-1, len(SYMBOLIC_ACTIONS), 10**9])
def test_an_unknown_id_is_refused(token):
    with pytest.raises(InstructionError, match=f"token {token}, expected 0 to"):
        VOCABULARY.detokenize(token)


@pytest.mark.parametrize("names", [(), ("open", "open"), ("Open",), ("pick up",), ("",), ("open_",)])
def test_vocabularies_that_cannot_be_are_refused(names):
    with pytest.raises(ContractError, match=r"vocabulary needs|expected lower-case"):
        SymbolicVocabulary(names)
