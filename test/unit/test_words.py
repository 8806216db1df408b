"""The field's language: words of the former dialect stay out of code, documents and configuration.

`docs/architecture.md` has the glossary.
"""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PLACES = ("vla_ros", "benchmarks", "examples", "launch", "scripts", "config", "docs", "msg", "srv", "action", "urdf")
FILES = ("README.md", "CONTRIBUTING.md", "SECURITY.md")
KINDS = {".py", ".md", ".yaml", ".msg", ".srv", ".action", ".xacro", ".in"}

OLD = {
    "brake_instead": "watchdog_brake",
    "tick_instead": "on_deadline_missed",
    "namesakes?": "duplicate nodes",
    "Complaints": "ThrottledLogger",
    "Glance": "TargetFeatures",
    "Eye": "VisionEncoder",
    "train_deciding": "train_action_head",
    "data_lines": "dataset_fingerprint",
    "_Thoughts|_as_read": "_Intermediates, _round_binary",
    "decode_picture|curve_picture|(data|recorded)_pictures|pictures=": "decode_image, plot_curve, images",
    "GRIPPER_SHARE|PLAIN_SHARE": "GRIPPER_FRACTION, PLAIN_FRACTION",
    "FEWEST_(INTERVALS|MOTIONS|OPENINGS|SIZES)|LEAST_OVERLAP|SMALLEST_(SCALE|NORM|ERROR)": "MIN_...",
    "MOST_(ROWS|COMMANDS|LABELS|CAMERAS|STATES|ITEMS|ON_THE_WAY|PLANS|WORDS)": "MAX_...",
    "LONGEST_(HISTORY|EPISODE|SENTENCE|TEXT|PROMPT|CHUNK)": "MAX_...",
    r"(target|output|wanted|said)\.present": "target_visible",
    r"obstacles\(given, wanted\)": "incompatibilities(source, target)",
    "DecidingOptions|DecidingSection|deciding_lines": "ActionHeadOptions, ActionHeadSection, action_head_provenance",
    "(Safe|Bare|Clamp|Latch)?Carriers?": "Executor, SafetyExecutor, DirectExecutor, ...",
    "CloningOptions|cloning_lines": "BcOptions, bc_provenance",
    "PartOptions|_begin_anew": "ParamGroupOptions, _reinit_modules",
    "given: ModelInput|wanted: ModelTarget": "inputs, target",
    r"network\.act|act_next|act_towards": "predict, predict_next, predict_guided",
    "[Nn]ormalis(e|ed|es|ing|ation)": "normalize",
    "[Ss]ummaris(e|ed|es|ing)": "summarize",
    "[Rr]ecognis(e|ed|es|ing)": "recognize",
    "[Ss]tandardis(e|ed|es|ing)": "standardize",
    "[Tt]okenis(e|ed|es|ing|ation|er)": "tokenize",
    "[Bb]ehaviours?|[Bb]ehavioural": "behavior",
    "[Nn]eighbours?|[Nn]eighbouring": "neighbor",
    "[Ww]hoever": "the publisher, user or process that is meant",
    "by and by": "gradually",
    "clean runs?": "nominal run",
    r"in shadow(?![.\w])": "in a dry run",
}
"""Old word, a pattern of whole words, to the word of the field."""


def lines():
    """Yield (file, number, line) of all that people read."""
    for file in sorted(
        [*(ROOT / name for name in FILES), *(path for place in PLACES for path in (ROOT / place).rglob("*"))]
    ):
        if file.suffix in KINDS:
            for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
                yield file.relative_to(ROOT), number, line


def test_there_is_something_to_read():
    assert sum(1 for _ in lines()) > 50_000


@pytest.mark.parametrize(("old", "new"), OLD.items(), ids=str)
def test_old_word_is_gone(old, new):
    pattern = re.compile(rf"(?<![\w`'])(?:{old})(?!\w)")
    found = [f"{file}:{number}: {line.strip()}" for file, number, line in lines() if pattern.search(line)]
    assert not found, f"say '{new}':\n" + "\n".join(found[:20])
