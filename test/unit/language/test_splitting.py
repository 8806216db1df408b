import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_ros.language.splitting import split_instruction


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("pick up the red cube", ("pick up the red cube",)),
        ("do a, then b", ("do a", "b")),
        ("do a then b", ("do a", "b")),
        ("do a and then b", ("do a", "b")),
        ("do a, and then, b", ("do a", "b")),
        ("first do a, then b, finally c", ("do a", "b", "c")),
        ("do a. then b. after that c.", ("do a", "b", "c")),
        ("do a; do b! do c", ("do a", "do b", "do c")),
        ("do a, afterwards do b", ("do a", "do b")),
        ("do a, next, do b", ("do a", "do b")),
        ("1. do a 2 times. 2. do b", ("do a 2 times", "do b")),
        ("1) do a, 2) do b", ("do a", "do b")),
        ("step 1: do a. step 2: do b", ("do a", "do b")),
        ("put the cube next to the ball", ("put the cube next to the ball",)),
        ("take the red and the blue cube", ("take the red and the blue cube",)),
        ("lift it 0.5 m", ("lift it 0.5 m",)),
        ("strengthen the grip", ("strengthen the grip",)),
        ("then b", ("b",)),
        ("", ()),
        (", then .", ()),
    ],
)
def test_parts_come_in_order(text, parts):
    assert split_instruction(text) == parts


PARTS = ["pick up the red cube", "put it next to the ball", "open the gripper", "lift it 0.5 m"]


@given(
    st.lists(st.sampled_from(PARTS), min_size=1, max_size=6),
    st.sampled_from([", then ", " then ", ", and then ", ". ", "; ", " after that ", ", finally, ", "\n"]),
)
def test_what_was_joined_comes_apart_again(parts, joint):
    assert split_instruction(joint.join(parts)) == tuple(parts)


@given(st.text())
def test_splitting_a_part_changes_nothing(text):
    for part in split_instruction(text):
        assert part in text
        assert split_instruction(part) == (part,)
