import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_ros.language import stop
from vla_ros.language.stop import SCANNED, is_stop, may_be_stop

WORDS = [
    "stop",
    "halt",
    "freeze",
    "cancel",
    "abort",
    "quit",
    "pause",
    "emergency stop",
    "e-stop",
    "estop",
    "e stop",
    "whoa",
    "hold still",
    "do not move",
    "don't move",
    "stand still",
]

ORDERS = [
    "stop!",
    "STOP.",
    "Stop, please",
    "please stop",
    "stop the arm",
    "halt now",
    "robot, stop!",
    "stop moving",
    "no no no stop",
    "oh god stop",
    "hey robot stop",
    "you must stop",
    "can you stop?",
    "stop it",
    "stop stop stop",
    "stop!!!stop",
    "STOOOP",
    "stopp",
    "freeeze",
    "that is wrong, stop!",
    "pick up the cube. stop!",
    "stop-it",
    "stop_now",
    "EMERGENCY!",
    "emergency",
    "cancel that",
    "abort the pick",
    "stop picking up the red cube",
    "\tstop\n",
    "“stop”",
    "*stop*",
    "(stop)",
    "wait",
    "wait!",
    "hold on",
    "hold it!",
    "enough",
    "please wait",
    "don’t move",
    "ＳＴＯＰ",
    "st\N{ZERO WIDTH SPACE}op",
    "\N{RIGHT-TO-LEFT OVERRIDE}stop",
    "stop\x00\x07",
    "\x1b stop",
    "stop\ufffd",
    "the arm must stop",
    "make it stop",
    "make the robot stop",
    "i said stop",
    "stop - now",
    "wrong cube - stop",
    "stop then pick up the cube",
    "stopstopstop",
    "STOPSTOP!",
    "all stop",
    "full stop",
    "everything stop",
    "wait wait wait",
    "hold on hold on",
    "wait, please wait",
]

TASKS = [
    "",
    " ",
    "?!",
    "put the block next to the bus stop",
    "pick up the red cube",
    "pick up the stop sign",
    "press the stop button",
    "place it on the emergency exit sign",
    "pick up the cube, then stop",
    "pick up the cube and stop",
    "do not stop",
    "don't stop",
    "never stop",
    "go non-stop",
    "stopwatch to the left",
    "hold the cube",
    "hold it above the plate",
    "wait for the green cube",
    "the red cube",
    "unstoppable",
    "stack the cube on the backstop",
    "move to the haltestelle",
    "pick the freezer bag",
    "cube stop",
    "I'd like you to pick up the stop sign",
    "put the cube in the bowl, then stop",
    "the stops are red",
    "hold on to the cube",
    "wait for the wait sign",
    "all cubes",
    "everything on the bus stop",
]


POLITE = [
    "please, could you kindly stop moving",
    "would you please stop",
    "I'd like you to stop now",
    "kindly halt",
    "robot, will you just stop it",
    "can you stop for a second",
    "everybody stop",
    "you need to stop right now",
    "would you mind stopping",
    "sorry, please stop",
    "I have to ask you to stop",
    "could you maybe halt",
    "Stopp",
    "alto",
    "arrête",
    "Arrêtez !",
    "fermati",
    "стоп",
    "停",
    "止まれ",
]


@pytest.mark.parametrize("text", WORDS + ORDERS + POLITE)
def test_an_order_to_stop_is_seen(text):
    assert is_stop(text)
    assert may_be_stop(b"\x00\x01" + text.encode())


@pytest.mark.parametrize("text", TASKS)
def test_a_task_is_no_stop(text):
    assert not is_stop(text)


@given(
    word=st.sampled_from(WORDS),
    casing=st.randoms(use_true_random=False),
    before=st.text(" .,!?;:\n\t\x00\u200b\"'([", max_size=5),
    after=st.text(" .,!?;:\n\t\x00\u200b\"')]", max_size=5),
    tail=st.sampled_from(["", " now", " please", " the arm", " everything at once", " or it breaks"]),
)
def test_case_punctuation_and_what_follows_change_nothing(word, casing, before, after, tail):
    mixed = "".join(casing.choice((letter.upper(), letter.lower())) for letter in word)
    assert is_stop(f"{before}{mixed}{after}{tail}")


FRAGMENTS = [
    *WORDS,
    "sstooop",
    "haalt",
    "frezze",
    "wait",
    "enough",
    "hold on",
    "please",
    "the arm",
    "red cube",
    ",",
    "-",
]


@given(st.lists(st.sampled_from(FRAGMENTS), max_size=4), st.sampled_from([" ", "", "_", ". "]))
def test_the_short_way_for_plain_text_answers_as_the_long_one(fragments, joint):
    text = joint.join(fragments)
    assert is_stop(text) == is_stop(f"\N{ZERO WIDTH SPACE}{text}")


@given(st.text())
def test_any_text_gets_an_answer(text):
    assert is_stop(text) in (True, False)
    assert is_stop(f"stop! {text}")


def test_only_the_beginning_of_a_huge_text_is_read():
    assert is_stop("stop " + "x" * 10_000_000)
    assert not is_stop("x" * SCANNED + ". stop")


HEDGED = [
    "would you please stop",
    "I would like you to stop",
    "I want you to stop moving the arm",
    "please do stop",
    "would you be so kind as to stop",
    "do you mind stopping for a moment?",
    "I'd appreciate it if you stopped",
    "it would be nice if you could stop",
    "you'd better stop",
    "you really must stop",
    "I think you should stop",
    "I'm begging you, please stop",
    "I order you to stop",
    "I said that you should stop",
    "it's time to stop",
    "would everyone please just stop",
    "go ahead and stop",
    "do me a favor and stop",
    "may I ask you to halt",
    "honestly, could you simply stop",
    "the machine should stop now",
    "so stop already",
    "how about stopping",
    "no no not that one please stop",
    "get it to stop",
    "could you not move",
    "you must not move",
    "won't you stop",
    "why won't you stop",
    "is it possible to stop",
    "i need you to pause now",
]

FOREIGN = [
    "Stopp!",
    "¡alto!",
    "Arrête !",
    "arre\u0302te",
    "fermati subito",
    "para",
    "¡para ya!",
    "para, por favor",
    "basta",
    "停！",
    "请停下",
    "快停下",
    "機器人停下",
    "止まって",
    "ストップ",
    "ｽﾄｯﾌﾟ",
    "今すぐ止まれ",
    "やめて",
    "멈춰",
    "bitte stopp",
    "s'il vous plaît arrêtez",
]

MENTIONED = [
    "push the cube next to the bus stop",
    "move until you reach the stop sign, then pick up the ball",
    "could you please push the cube next to the bus stop",
    "i'd like you to pick up the stop sign",
    "please move to the stop",
    "would you put the ball on the pause button",
    "kindly place it by the emergency exit",
    "can you hold the cube",
    "please wait for the green cube",
    "please don't stop",
    "you should never stop",
    "could you not stop",
    "pick up the cube, then please stop",
    "pick up the cube and please stop",
    "put the alto saxophone on the table",
    "para el cubo rojo",
    "move the basta pasta box",
    "把方块放到停车标志旁边",
    "pick up the cube that stopped",
    "i'd like you to take the halted train",
    "please take the cube to a halt sign",
    "you need to pick up the red cube right now",
    "place the parapet on the paper",
    "start freezing the peas",
    "the gripper holds the stop sign",
]


@pytest.mark.parametrize("text", HEDGED)
def test_hedged_and_embedded_orders_stop(text):
    assert is_stop(text)


@pytest.mark.parametrize("text", FOREIGN)
def test_stop_words_of_other_languages_stop(text):
    assert is_stop(text)
    assert may_be_stop(text.encode())


@pytest.mark.parametrize("text", MENTIONED)
def test_a_task_that_mentions_a_stop_stays_a_task(text):
    assert not is_stop(text)


PREFIXES = ["please", "could you", "would you", "kindly", "just", "robot", "i want you to", "really", "now", "you must"]


@given(st.lists(st.sampled_from(PREFIXES), max_size=6), st.sampled_from(WORDS), st.sampled_from(["", " ", " it now"]))
def test_any_mixture_of_courtesy_before_a_stop_verb_stops(prefixes, word, tail):
    assert is_stop(" ".join([*prefixes, word]) + tail)


@given(st.lists(st.sampled_from(PREFIXES), max_size=6), st.sampled_from(["push the cube to the bus stop", "pick it"]))
def test_any_mixture_of_courtesy_before_a_task_is_a_task(prefixes, task):
    assert not is_stop(" ".join([*prefixes, task]))


UNITS = [
    "s",
    "h",
    "st",
    "sto",
    "stopsto",
    "fre",
    "you ",
    "please ",
    "wait ",
    "hold ",
    "i please ",
    "\u200b",
    "a. ",
    "é",
    "hold you ",
    "please st",
    "enough ",
    "enough you x ",
]


@pytest.mark.parametrize("unit", UNITS)
def test_work_grows_in_proportion_to_the_text(unit, monkeypatch):
    monkeypatch.setattr(stop, "SCANNED", 200_000)  # with a quadratic step in it, this takes minutes
    text = unit * (200_000 // len(unit))
    assert is_stop(f"{text} cube") in (True, False)
    assert is_stop(f"you {text} cube") in (True, False)
    assert may_be_stop(text.encode()) in (True, False)


@pytest.mark.parametrize("mark", ["\u0336", "\u20e0", "\ufe0f", "\u0332"])
def test_marks_on_letters_hide_no_stop(mark):
    assert is_stop(f"stop{mark}") and is_stop(mark.join("stop")) and is_stop(f"please halt{mark}!")
