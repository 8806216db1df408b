"""What tests of several rooms share: another process, and recorded demonstrations of a known motion."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from vla_ros.actions.space import ActionSpace
from vla_ros.data.reader import DatasetDescription
from vla_ros.data.step import GRIPPER_NAME, POSE_NAMES, Step
from vla_ros.robot.contract import RobotContract, load_contract

LOOP = """
import json, sys, traceback
replies, sys.stdout = sys.stdout, sys.stderr
for line in sys.stdin:
    complaint = None
    try:
        answer(*json.loads(line))
    except Exception:
        complaint = traceback.format_exc()
    print(json.dumps(complaint), file=replies, flush=True)
"""


@pytest.fixture(scope="session")
def another_process() -> Iterator[Callable[[str], Callable[..., None]]]:
    """another_process(script): start Python on a script that defines `answer`; returns `ask`, which calls it there.

    `ask` takes what JSON holds and raises when `answer` did. To start it once for many questions spares an import of
    PyTorch for each.
    """
    with ExitStack() as running:

        def start(script: str) -> Callable[..., None]:
            process = running.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", script + LOOP], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
                )
            )

            def ask(*arguments: object) -> None:
                assert process.stdin is not None and process.stdout is not None
                print(json.dumps(arguments), file=process.stdin, flush=True)
                complaint = json.loads(process.stdout.readline() or '"the process has ended"')
                assert complaint is None, complaint

            return ask

        yield start


PANDA = load_contract("panda")
ROW = replace(PANDA.action, horizon=1)
SIZES = {camera.name: (camera.policy_height, camera.policy_width) for camera in PANDA.cameras}
JOINT_NAMES = tuple(f"joint_{i + 1}" for i in range(PANDA.joints.count))  # not the robot's: they stand still
NAMES = (*JOINT_NAMES, *POSE_NAMES, GRIPPER_NAME)


def _pictures(seed: int, sizes: dict[str, tuple[int, int]]) -> dict[str, np.ndarray]:
    """Smooth pictures, which a video keeps, each of another colour."""
    colour = np.random.default_rng(seed).integers(40, 216, 3)
    shade = {
        name: np.linspace(0, 30, size[1])[None, :, None] * np.ones((size[0], 1, 1)) for name, size in sizes.items()
    }
    return {name: (colour + one).astype(np.uint8) for name, one in shade.items()}


def _walk(
    name: str, count: int, *, seed: int = 0, sizes: dict[str, tuple[int, int]] = SIZES, **changes: object
) -> list[Step]:
    """Return an episode of the panda: the tool wanders and turns, and each command is 1 cm up from where it is."""
    rng = np.random.default_rng([seed, count])
    steps = []
    for index in range(count):
        angle = 0.1 * index
        place = np.array([0.5, 0.0, 0.2 + 0.01 * index]) + rng.normal(0.0, 0.002, 3)
        turn = [0.0, 0.0, np.sin(angle / 2), np.cos(angle / 2)]
        given = {
            "images": _pictures(100 * seed + index, sizes),
            "instruction": "pick up the red cube",
            "proprioception": np.concatenate([np.zeros(7), place, turn, [0.04]]),
            "action": np.array([0.0, 0.0, 0.01, 0.0, 0.0, 0.02, float(index % 2)]),
            "convention": ROW,
            "task": "pick",
            "episode": name,
            "index": index,
            "timestamp": index / 10.0,
            "last": index == count - 1,
            "success": True,
            "proprioception_names": NAMES,
        }
        steps.append(Step(**{**given, **changes}))  # type: ignore[arg-type]
    return steps


def _write(folder: Path, episodes: Sequence[Sequence[Step]], **changes: object) -> Path:
    """Write episodes as a LeRobot data set; `changes` are of its description, or of the writer."""
    from vla_ros.data.lerobot.writer import LeRobotWriter  # not every test that needs another process has pyarrow

    options = {key: changes.pop(key) for key in ("video_files",) if key in changes}
    first = episodes[0][0]
    sizes = {name: image.shape[:2] for name, image in first.images.items()}
    given = DatasetDescription(
        folder.name, first.convention, tuple(sizes), first.proprioception_names, PANDA.gripper.max_opening
    )
    with LeRobotWriter(folder, replace(given, **changes), sizes, **options) as writer:  # type: ignore[arg-type]
        for steps in episodes:
            writer.write(steps)
    return folder


@pytest.fixture(scope="session")
def recordings() -> SimpleNamespace:
    """Recorded demonstrations: `walk` makes the steps of an episode, `write` a LeRobot data set of several."""
    return SimpleNamespace(contract=PANDA, convention=ROW, sizes=SIZES, names=NAMES, walk=_walk, write=_write)


TEXT = PANDA.text
URDF = PANDA.urdf.read_text(encoding="utf-8")
FIRST, SECOND = "panda_finger_joint1", "panda_finger_joint2"


def _replaced(text: str, pattern: str, by: str, count: int = 1) -> str:
    changed, found = re.subn(pattern, by, text, flags=re.DOTALL)
    assert found == count, pattern
    return changed


def _joint(name: str, change: Mapping[str, str]) -> str:
    """Return the description with other text in one of its joints."""
    block = re.search(rf'<joint name="{name}".*?</joint>', URDF, re.DOTALL)
    assert block is not None
    text = block.group()
    for pattern, by in change.items():
        text = _replaced(text, pattern, by)
    return URDF.replace(block.group(), text)


def _variants(folder: Path) -> dict[str, RobotContract]:
    """Write every variant in a folder of its own below `folder` and return it by name."""
    bare = _replaced(TEXT, r"\ngripper:\n(  .*?\n)+?(?=\S|\n\S)", "\ngripper: none\n")
    bare = _replaced(bare, r"\n  gripper_(interface|topic):[^\n]*", "", 2)
    bare = _replaced(bare, r"\n  gripper: \w+", "\n  gripper: none")
    bare = _replaced(bare, r"\n  home: ", f"\n  fixed: {{{FIRST}: 0.02, {SECOND}: 0.02}}\n  home: ")
    names = rf"names: \[{FIRST}, {SECOND}\]"
    mirrored = _joint(
        SECOND,
        {
            r'<axis xyz="[^"]*"/>': '<axis xyz="0 1 0"/>',
            r'lower="[^"]*"': 'lower="-0.04"',
            r'upper="[^"]*"': 'upper="0.0"',
        },
    )
    follower = _joint(SECOND, {"</joint>": f'<mimic joint="{FIRST}"/></joint>'})
    turns = URDF
    for name in ("panda_joint1", "panda_joint7"):
        block = re.search(rf'<joint name="{name}".*?</joint>', turns, re.DOTALL)
        assert block is not None
        endless = _replaced(block.group(), 'type="revolute"', 'type="continuous"')
        endless = _replaced(endless, r' (lower|upper)="[^"]*"', "", 2)
        turns = turns.replace(block.group(), endless)
    wide = _replaced(TEXT, r"lower: \[-2\.8973, (.*?), -2\.8973\]", r"lower: [-6.2, \1, -6.2]")
    wide = _replaced(wide, r"upper: \[2\.8973, (.*?), 2\.8973\]", r"upper: [6.2, \1, 6.2]")
    made = {
        "bare": (bare, URDF),
        "mirrored": (_replaced(TEXT, r"\n  open: 0\.04", "\n  open: [0.04, -0.04]"), mirrored),
        "mimic": (_replaced(TEXT, names, f"names: [{FIRST}]"), follower),
        "continuous": (wide, turns),
    }
    found = {}
    for name, (text, urdf) in made.items():
        place = folder / name
        place.mkdir()
        (place / "arm.urdf").write_text(urdf, encoding="utf-8")
        text = _replaced(text, r"\nurdf: [^\s#]+", "\nurdf: arm.urdf")
        (place / "arm.yaml").write_text(text, encoding="utf-8")
        found[name] = load_contract(place / "arm.yaml")
    return found


@pytest.fixture(scope="session")
def arm_variants(tmp_path_factory: pytest.TempPathFactory) -> dict[str, RobotContract]:
    """Contracts of arms that are built otherwise: bare, mirrored and mimic fingers, continuous joints."""
    return _variants(tmp_path_factory.mktemp("variants"))


@pytest.fixture(scope="session")
def rewritten():
    """Return a function that gives a space of one tool with other lines, such as `rotation="six_d"`."""

    def rewrite(space: ActionSpace, **lines: object) -> ActionSpace:
        motion, gripper = space.only_motion, space.only_gripper
        before = {
            "frame": motion.frame,
            "reference": motion.reference,
            "rotation": motion.rotation,
            "gripper": "none" if gripper is None else gripper.gripper,
            "rate_hz": space.rate_hz,
            "horizon": space.horizon,
        }
        assert ActionSpace.of_one_tool(**before) == space, "this is no space of one tool"
        return ActionSpace.of_one_tool(**before | lines)

    return rewrite
