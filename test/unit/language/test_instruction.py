import unicodedata
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vla_ros.errors import InstructionError
from vla_ros.language.instruction import MAX_BYTES, normalize_instruction
from vla_ros.language.tokenizer import split_words


@pytest.mark.parametrize(
    ("received", "sentence"),
    [
        ("pick up the red cube", "pick up the red cube"),
        ("  Pick UP\tthe\n red   cube.\n", "pick up the red cube."),
        ("pick up\N{NO-BREAK SPACE}the\N{EM SPACE}red cube", "pick up the red cube"),
        ("ｐｉｃｋ up the ﬁrst cube", "pick up the first cube"),
        ("cafe\N{COMBINING ACUTE ACCENT}", "caf\N{LATIN SMALL LETTER E WITH ACUTE}"),
        ("拿起红色方块", "拿起红色方块"),
    ],
)
def test_what_means_the_same_becomes_the_same(received, sentence):
    assert normalize_instruction(received) == sentence


@pytest.mark.parametrize("text", ["", " ", "\n", "...", "?!", "\N{IDEOGRAPHIC SPACE}", "- _ -"])
def test_empty_is_refused(text):
    with pytest.raises(InstructionError, match=r"is empty, expected at least one word; send"):
        normalize_instruction(text)


@pytest.mark.parametrize("value", [None, 3, b"pick up the red cube", ["pick"], 1.5])
def test_what_is_no_text_is_refused_by_type(value):
    with pytest.raises(InstructionError, match=rf"of type {type(value).__name__}, expected str"):
        normalize_instruction(value)


def test_the_cap_is_the_bound_of_the_message():
    message = Path(__file__).parents[3] / "msg" / "Instruction.msg"
    assert f"string<={MAX_BYTES} text" in message.read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("character", ["a", "é", "红", "\N{DESERET SMALL LETTER LONG I}"])
def test_the_cap_counts_bytes_not_characters(character):
    size = len(character.encode())
    fits = "a" * (MAX_BYTES % size) + character * (MAX_BYTES // size)
    assert len(normalize_instruction(fits).encode()) == MAX_BYTES
    with pytest.raises(InstructionError, match=rf"at least {MAX_BYTES + 1} bytes, expected at most {MAX_BYTES}"):
        normalize_instruction(fits + "b")


def test_what_grows_over_the_cap_in_normalisation_is_refused():
    ligature = "\N{ARABIC LIGATURE SALLALLAHOU ALAYHE WASALLAM}"  # 3 bytes become 33
    assert len(ligature.encode()) * 20 < MAX_BYTES < 20 * len(unicodedata.normalize("NFKC", ligature).encode())
    with pytest.raises(InstructionError, match="expected at most"):
        normalize_instruction(ligature * 20)


def test_a_huge_text_is_refused_and_not_repeated():
    with pytest.raises(InstructionError) as error:
        normalize_instruction("pick " * 2_000_000)
    assert "at least 10000000 bytes" in str(error.value)
    assert len(str(error.value)) < 200


@pytest.mark.parametrize(
    ("character", "what"),
    [
        ("\0", "control character (U+0000)"),
        ("\x1b", "control character (U+001B)"),
        ("\x07", "control character (U+0007)"),
        ("\x7f", "control character (U+007F)"),
        ("\x85", "control character (U+0085)"),
        ("\N{RIGHT-TO-LEFT OVERRIDE}", "invisible formatting character (U+202E)"),
        ("\N{ZERO WIDTH SPACE}", "invisible formatting character (U+200B)"),
        ("\ud800", "half of a surrogate pair (U+D800)"),
        ("\ue000", "private character (U+E000)"),
        ("\uffff", "unassigned character (U+FFFF)"),
        ("�", "was not UTF-8"),
    ],
)
def test_characters_that_nobody_can_see_are_refused_with_name_and_place(character, what):
    with pytest.raises(InstructionError) as error:
        normalize_instruction(f"pick{character}up the cube")
    assert what in str(error.value)
    assert "at character 4" in str(error.value)
    assert character == "�" or character not in str(error.value), "an error is printed on terminals"


@pytest.mark.parametrize(
    "sentence",
    ["مکعب قرمز را می\u200cخواهم", "क्\u200dष लाल घन उठाओ", "ශ්\u200dරී රතු"],
)
def test_joiners_inside_words_are_taken(sentence):
    assert normalize_instruction(sentence) == sentence
    assert split_words(sentence) == sentence.split()


@pytest.mark.parametrize(
    "text", ["r\u200ced cube", "می\u200c خواهم", "\u200cمی", "می\u200c", "a\u200dم", "می\u200c\u200cخ"]
)
def test_joiners_elsewhere_are_refused(text):
    with pytest.raises(InstructionError, match="invisible formatting character"):
        normalize_instruction(text)


@given(st.text(max_size=600))
@example("H\N{COMBINING MACRON BELOW}")
@example("İ")
@example("ẞ" * 170)
@example("ϓ\N{COMBINING ACUTE ACCENT}")
def test_any_text_is_refused_or_becomes_a_normal_form(text):
    try:
        sentence = normalize_instruction(text)
    except InstructionError:
        return
    assert normalize_instruction(sentence) == sentence
    assert unicodedata.is_normalized("NFKC", sentence)
    assert sentence == " ".join(sentence.split())
    assert 0 < len(sentence.encode()) <= MAX_BYTES
    hidden = {character for character in sentence if unicodedata.category(character) in ("Cc", "Cf", "Cs")}
    assert hidden <= {"\u200c", "\u200d"}


@given(st.binary(max_size=600))
def test_any_bytes_that_are_not_utf8_are_refused(data):
    text = data.decode("utf-8", "replace")
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        with pytest.raises(InstructionError):
            normalize_instruction(text)
