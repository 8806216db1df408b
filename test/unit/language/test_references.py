import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_ros.envs.tabletop.objects import COLOURS, SHAPES
from vla_ros.language.references import Reference, find_references


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("pick up the red cube", ["red cube"]),
        ("Put the RED cube on the blue cylinder.", ["red cube", "blue cylinder"]),
        ("pick up the cube", ["cube"]),
        ("pick up the red one", ["red"]),
        ("take the red one and the blue cube", ["red", "blue cube"]),
        ("take the red and blue cubes", ["red cube", "blue cube"]),
        ("take the small red wooden ball", ["red ball"]),
        ("put the cube next to the green ball", ["cube", "green ball"]),
        ("take the red", ["red"]),
        ("go home", []),
        ("", []),
        ("the reddish cuboid", []),
    ],
)
def test_objects_are_named_in_order(text, named):
    assert [str(reference) for reference in find_references(text, COLOURS, SHAPES)] == named


def test_a_plural_in_es_is_known():
    assert find_references("the red boxes", {"red"}, {"box"}) == (Reference("red", "box"),)


def test_what_is_left_open_fits_anything():
    assert Reference("red", None).fits("red", "cube")
    assert not Reference("red", None).fits("blue", "cube")
    assert Reference(None, "cube").fits("blue", "cube")
    assert not Reference(None, "cube").fits("blue", "ball")
    assert Reference(None, None).fits("blue", "ball")


OBJECTS = st.lists(st.tuples(st.sampled_from(sorted(COLOURS)), st.sampled_from(sorted(SHAPES))), max_size=8)


@given(OBJECTS, st.sampled_from([" and the ", ", then the ", " onto the "]))
def test_every_object_of_a_sentence_is_found(objects, joint):
    text = "take the " + joint.join(f"{colour} {shape}" for colour, shape in objects)
    assert find_references(text, COLOURS, SHAPES) == tuple(Reference(*thing) for thing in objects)
