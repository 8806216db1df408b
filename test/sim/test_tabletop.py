"""The tabletop tasks in real physics: seeds, pictures, judge, perturbations, and an expert that can do them."""

from __future__ import annotations

import dataclasses
from collections import Counter

import numpy as np
import pytest

from vla_ros.actions.decoding import decode
from vla_ros.envs.collector import LOOKS, CollectionOptions
from vla_ros.envs.registry import find_world, make_collector, make_env
from vla_ros.envs.tabletop.commands import choose_commands, possible_commands
from vla_ros.envs.tabletop.env import TabletopEnv
from vla_ros.envs.tabletop.expert import LET_GO, LET_GO_STACK, Situation, plan_command
from vla_ros.envs.tabletop.model import DISTRACTORS
from vla_ros.envs.tabletop.patterns import draw_pattern
from vla_ros.envs.tabletop.perturbations import (
    HELD_OUT_DISTRACTORS,
    HELD_OUT_PATTERNS,
    PERTURBATIONS,
    TRAINING_DISTRACTORS,
    TRAINING_PATTERNS,
    Perturbation,
    training_variation,
)
from vla_ros.envs.tabletop.scene import COLOURS, DIRECTION_VECTORS, HELD_OUT_PAIRS
from vla_ros.errors import InstructionError, SimulationError
from vla_ros.language.commands import Act, Command, understand
from vla_ros.language.phrasing import say
from vla_ros.robot.contract import RobotContract, load_contract
from vla_ros.types import Pose

LARGEST = {"light": "light", "camera": "camera_shift"}
"""Perturbation to the number that says how much of it there is."""

UNDISTURBED = CollectionOptions(max_steps=110, disturbance=0.0, switch=0.0)


@pytest.fixture(scope="module")
def contract() -> RobotContract:
    return load_contract("panda")


@pytest.fixture(scope="module")
def cell(contract: RobotContract) -> TabletopEnv:
    return make_env("tabletop", contract)


@pytest.fixture(autouse=True)
def _unperturbed(cell: TabletopEnv) -> None:
    cell.perturbation = Perturbation()


def test_one_seed_repeats_bit_for_bit_whatever_was_played_before(cell: TabletopEnv, contract: RobotContract) -> None:
    def play(one: TabletopEnv, seed: int) -> bytes:
        one.reset(seed)
        one.step(0.2)
        return one.data.qpos.tobytes() + one.render("front").tobytes() + one.render("wrist").tobytes()

    first = play(cell, 11)
    assert play(cell, 12) != first
    assert play(cell, 11) == first == play(make_env("tabletop", contract), 11)


@pytest.mark.parametrize("seed", range(8))
def test_the_picture_shows_each_thing_where_it_is(cell: TabletopEnv, seed: int) -> None:
    cell.reset(seed)
    picture = cell.render("front").astype(float)
    for item in cell.scene.objects:
        place = cell.thing_position((item.colour, item.shape))
        u, v = cell.project("front", place) or (-1.0, -1.0)
        pixel, wanted = picture[int(v), int(u)], np.array(COLOURS[item.colour])
        bare = (pixel - pixel.min()) / max(float(pixel.max() - pixel.min()), 1.0)
        hue = (wanted - wanted.min()) / (wanted.max() - wanted.min())
        assert np.abs(bare - hue).max() < 0.25, f"{item.name}: {bare} at ({u:.0f}, {v:.0f}), expected {hue}"


def test_things_rest_and_nothing_is_done_before_anyone_acts(cell: TabletopEnv) -> None:
    for seed in range(20):
        cell.reset(seed)
        cell.step(1.0)
        assert not cell.task_status().success and cell.handled() == "", cell.instruction


def test_a_sentence_brings_its_things_also_held_out_ones(cell: TabletopEnv) -> None:
    command = Command(Act.STACK, next(iter(sorted(HELD_OUT_PAIRS & {("red", "cube")}))), ("yellow", "cube"))
    cell.reset(5, say(command))
    assert cell.scene.command == command and cell.target.name == "red cube"
    before = (cell.data.qpos.copy(), cell.scene, cell.instruction)
    with pytest.raises(InstructionError, match="must name one object"):
        cell.reset(5, "dance")
    assert np.array_equal(cell.data.qpos, before[0]) and (cell.scene, cell.instruction) == before[1:]
    cell.reset(5)
    absent = next(c for c in COLOURS if f"{c} ball" not in [item.name for item in cell.scene.things])
    with pytest.raises(InstructionError, match="only"):
        cell.set_instruction(f"pick up the {absent} ball")


def _put(cell: TabletopEnv, command: Command, aside: float, above: float) -> bool:
    """Let the thing fall from `above` its place, `aside` from the goal's middle; return the verdict."""
    cell.reset(3, say(command))
    goal = cell.thing_position(command.goal)
    address = cell.model.joint(cell._body(cell._index(command.thing))).qposadr[0]
    height = goal[2] + 0.03 + above
    cell.data.qpos[address : address + 7] = [goal[0] + aside, goal[1], height, 1.0, 0.0, 0.0, 0.0]
    cell.step(1.0)
    return cell.task_status().success


def test_the_judge_of_places_goes_by_where_things_come_to_lie(cell: TabletopEnv) -> None:
    bowl = Command(Act.PLACE, ("red", "ball"), ("blue", "bowl"))
    plate = Command(Act.PLACE, ("blue", "cube"), ("red", "plate"))
    stack = Command(Act.STACK, ("yellow", "cube"), ("green", "disc"))
    assert _put(cell, bowl, 0.0, 0.03) and _put(cell, plate, 0.02, 0.0) and _put(cell, stack, 0.0, 0.02)
    assert not _put(cell, bowl, 0.15, 0.03) and not _put(cell, plate, 0.12, 0.0) and not _put(cell, stack, 0.06, 0.02)


def test_a_thing_in_the_air_over_its_goal_is_not_there(cell: TabletopEnv) -> None:
    command = Command(Act.PLACE, ("red", "ball"), ("blue", "bowl"))
    cell.reset(3, say(command))
    goal = cell.thing_position(command.goal)
    address = cell.model.joint(cell._body(cell._index(command.thing))).qposadr[0]
    cell.data.qpos[address : address + 3] = [goal[0], goal[1], 0.2]
    cell.step(0.02)
    assert not cell.task_status().success


@pytest.mark.parametrize("name", [name for name in PERTURBATIONS if name not in ("none", "delay")])
def test_a_perturbation_changes_its_own_thing_and_not_the_task(cell: TabletopEnv, name: str) -> None:
    cell.reset(21)
    before = (cell.scene, cell.instruction, cell.render("front").copy(), cell.state().joint_positions)
    looks = [cell.model.light_pos.copy(), cell.model.cam_quat.copy(), cell.model.geom("table").matid.copy()]
    cell.perturbation = PERTURBATIONS[name]
    cell.reset(21)
    assert (cell.scene, cell.instruction) == before[:2]
    assert np.abs(cell.render("front").astype(float) - before[2]).mean() > 0.2
    now = [cell.model.light_pos, cell.model.cam_quat, cell.model.geom("table").matid]
    changed = {"light", "camera", "table"} & {
        one for one, old, new in zip(("light", "camera", "table"), looks, now, strict=True) if (old != new).any()
    }
    assert changed == ({name} & {"light", "camera", "table"})
    moved = float(np.abs(cell.state().joint_positions - before[3]).max())
    assert (moved > 0.02) == (name == "start")
    cell.perturbation = Perturbation()
    cell.reset(21)
    assert np.array_equal(cell.render("front"), before[2])  # and leaves nothing behind


def test_the_delay_is_a_tenth_of_a_second_more() -> None:
    changed = {f.name: getattr(PERTURBATIONS["delay"], f.name) for f in dataclasses.fields(Perturbation)}
    assert changed == {**dataclasses.asdict(Perturbation()), "delay": 0.1}


def test_the_expert_does_every_task(contract: RobotContract) -> None:
    collector = make_collector("tabletop", contract, UNDISTURBED)
    done: Counter[str] = Counter()
    tried: Counter[str] = Counter()
    for seed in range(24):
        episode = collector.collect(seed)
        task = understand(collector.env.instruction).act.value
        tried[task] += 1
        done[task] += episode.success
    assert set(tried) == {act.value for act in Act} and min(tried.values()) >= 3
    assert sum(tried.values()) - sum(done.values()) <= 1, f"{done} of {tried}"


def test_one_seed_gives_one_episode(contract: RobotContract) -> None:
    options = dataclasses.replace(find_world("tabletop").options, max_steps=25)
    first = make_collector("tabletop", contract, options).collect(3)
    again = make_collector("tabletop", contract, options)
    again.collect(4)
    other = again.collect(3)
    assert first.arrays.keys() == other.arrays.keys()
    for name, array in first.arrays.items():
        np.testing.assert_array_equal(array, other.arrays[name])


def test_the_labels_of_one_state_serve_their_commands(contract: RobotContract) -> None:
    """Every "pick" label leads to its own thing; every command of an episode is another one."""
    episode = make_collector("tabletop", contract, dataclasses.replace(UNDISTURBED, max_steps=1)).collect(6)
    commands = [Command.from_key(str(key)) for key in episode.arrays["names"]]
    assert len(set(commands)) == len(commands) >= 6
    start = Pose(episode.arrays["position"][0], episode.arrays["quaternion"][0])
    for column, command in enumerate(commands):
        if command.act is Act.PICK:
            way = decode(episode.arrays["actions"][0, column].astype(float), contract.action, start, 0.08)
            gaps = np.linalg.norm(way.positions[-1][:2] - episode.arrays["target"][0, :, :2], axis=1)
            assert gaps[column] == gaps.min()


def test_commands_are_about_the_scene(cell: TabletopEnv) -> None:
    for seed in range(20):
        cell.reset(seed)
        commands = choose_commands(cell.scene, np.random.default_rng(seed))
        assert commands[0] == cell.scene.command and len(set(commands)) == len(commands)
        for command in possible_commands(cell.scene):
            cell.set_instruction(say(command))


def test_the_rule_by_hand() -> None:
    """Held and aside: up, then over; over the goal: down; there: open. A push goes behind the thing first."""
    goal = np.array([0.5, 0.1, 0.03])
    place = Command(Act.PLACE, ("red", "cube"), ("blue", "plate"))

    def first(command: Command, tool: np.ndarray, **values: object) -> tuple[np.ndarray, float]:
        situation = Situation(command, tool, 0.042, tool, True, False, goal)
        way = plan_command(dataclasses.replace(situation, **values), 1, 0.1, 0.08, 0.2)
        assert way.openings is not None
        return way.positions[0] - tool, float(way.openings[0])

    step, opening = first(place, np.array([0.5, -0.1, 0.021]))
    assert step[2] > 0.01 and np.abs(step[:2]).max() < 1e-9 and opening == 0.0
    step, opening = first(place, np.array([0.5, -0.1, 0.15]))
    assert step[1] > 0.01 and opening == 0.0
    step, opening = first(place, np.array([0.5, 0.1, 0.1]))
    assert step[2] < -0.01 and opening == 0.0
    assert first(place, goal + np.array([0.0, 0.0, 0.002]))[1] == 0.08
    step, opening = first(place, goal, holds_target=False, landed=True, opening=0.08)
    assert step[2] > 0.01 and opening == 0.08

    push = Command(Act.PUSH, ("red", "cube"), None, "left")
    thing = np.array([0.5, 0.0, 0.021])
    free = {"holds_target": False, "target": thing, "goal": None, "opening": 0.0}
    step, opening = first(push, thing + np.array([0.0, -0.045, 0.0]), **free)
    assert step[1] > 0.01 and abs(step[0]) < 1e-9 and opening == 0.0  # behind it and low: push
    step, _ = first(push, thing + np.array([0.0, 0.045, 0.0]), **free)
    assert step[2] > 0.01 and abs(step[1]) < 1e-9  # before it and low: up, not through it
    step, _ = first(push, thing + np.array([0.0, 0.045, 0.1]), **free)
    assert step[1] < -0.01  # high: over it to behind it
    step, opening = first(push, thing, **{**free, "holds_target": True, "opening": 0.042})
    assert opening == 0.08 and np.abs(step).max() < 1e-9  # something in the hand: let it go first


@pytest.mark.parametrize("direction", ["left", "right", "forward", "back"])
def test_a_closed_hand_that_touches_a_thing_with_both_fingers_pushes_on(direction: str) -> None:
    way = np.array([*DIRECTION_VECTORS[direction], 0.0])
    thing = np.array([0.5, 0.0, 0.021])
    command = Command(Act.PUSH, ("red", "cube"), None, direction)
    situation = Situation(command, thing - 0.032 * way, 0.001, thing, True, False)
    plan = plan_command(situation, 8, 0.1, 0.08, 0.2)
    assert plan.openings is not None and (plan.openings == 0.0).all()
    steps = np.diff(plan.positions, axis=0) @ way
    assert steps.min() > 0.01


@pytest.mark.parametrize("opening", [0.0, 0.021, 0.042, 0.06, 0.08])
@pytest.mark.parametrize("held", ["target", "other", ""])
def test_above_the_things_the_hand_that_is_to_push_closes(held: str, opening: float) -> None:
    """Else half-open fingers mean two things up there, and what learns from it opens and closes for ever."""
    command = Command(Act.PUSH, ("red", "cube"), None, "left")
    tool = np.array([0.5, 0.0, 0.09])
    thing = tool if held == "target" else np.array([0.5, 0.06, 0.021])
    situation = Situation(command, tool, opening, thing, held == "target", held == "other")
    plan = plan_command(situation, 16, 0.1, 0.08, 0.2)
    assert plan.openings is not None and plan.openings[0] == 0.0
    if held and opening > 0.02:  # what it holds is put down, not dropped
        low = plan.positions[:, 2] < 0.07
        assert low.any() and plan.positions[0, 2] < 0.09 and (plan.openings[: int(low.argmax())] == 0.0).all()
        assert plan.openings.max() == 0.08


@pytest.mark.parametrize(("aside", "above"), [(0.0, 0.05), (0.012, 0.0), (0.015, 0.015), (0.03, 0.005), (0.05, 0.06)])
@pytest.mark.parametrize("goal", [("blue", "plate"), ("blue", "bowl"), ("blue", "disc")])
def test_near_its_goal_a_held_thing_is_let_go_soon(aside: float, above: float, goal: tuple[str, str]) -> None:
    """Whatever the learner is off by: the next 1.6 seconds bring it there and open the hand."""
    command = Command(Act.STACK if goal[1] == "disc" else Act.PLACE, ("red", "cube"), goal)
    place = np.array([0.5, 0.1, 0.06])
    let_go = LET_GO.get(goal[1], LET_GO_STACK)
    thing = place + np.array([0.0, aside, above])
    situation = Situation(command, thing + np.array([0.0, 0.004, 0.005]), 0.042, thing, True, False, place, let_go)
    plan = plan_command(situation, 16, 0.1, 0.08, 0.2)
    assert plan.openings is not None and plan.openings.max() == 0.08


@pytest.mark.parametrize(("landed", "opening", "waits"), [(False, 0.047, 2), (True, 0.060, 1), (True, 0.079, 0)])
def test_the_hand_is_open_before_it_rises(landed: bool, opening: float, waits: int) -> None:
    """Else it takes a wide thing, which it lets go late, with it. 0.02 m a row; a disc is 0.056 m wide."""
    command = Command(Act.STACK, ("red", "disc"), ("blue", "disc"))
    place = np.array([0.5, 0.1, 0.06])
    situation = Situation(command, place, opening, place, not landed, False, place, landed=landed)
    plan = plan_command(situation, 6, 0.1, 0.08, 0.2)
    steps = np.diff(plan.positions[:, 2], prepend=place[2])
    assert plan.openings is not None and (plan.openings == 0.08).all()
    assert (steps[:waits] <= 0.0).all() and steps[waits] > 0.02


@pytest.mark.parametrize("goal", ["plate", "bowl", "disc"])
def test_where_the_state_changes_little_the_way_to_the_goal_does(goal: str) -> None:
    """Around the goal, no two neighbouring states (2 mm) are taught ways that differ much.

    Also where the hand begins to open: a learner that saw it stop there stopped there, and did not open.
    """
    command = Command(Act.STACK if goal == "disc" else Act.PLACE, ("red", "cube"), ("blue", goal))
    place = np.array([0.5, 0.1, 0.06])

    def step(aside: float, above: float) -> np.ndarray:
        thing = place + np.array([aside, 0.0, above])
        let_go = LET_GO.get(goal, LET_GO_STACK)
        situation = Situation(command, thing, 0.042, thing, True, False, place, let_go)
        return plan_command(situation, 1, 0.1, 0.08, 0.2).positions[0] - thing

    grid = np.array([[step(a, h) for h in np.arange(-0.004, 0.05, 0.002)] for a in np.arange(0.0, 0.03, 0.002)])
    assert np.abs(np.diff(grid, axis=0)).max() < 0.006 and np.abs(np.diff(grid, axis=1)).max() < 0.006


def test_an_unknown_world_is_named() -> None:
    with pytest.raises(SimulationError, match="did you mean 'tabletop'"):
        find_world("tabeltop")


def test_training_scenes_vary_less_and_never_as_an_evaluation_does() -> None:
    most = {name: getattr(PERTURBATIONS[name], field) for name, field in LARGEST.items()}
    drawn = [training_variation(np.random.default_rng(seed)) for seed in range(400)]
    assert 0.2 < sum(one == Perturbation() for one in drawn) / len(drawn) < 0.4
    for one in drawn:
        assert one.camera_turn <= 0.7 * PERTURBATIONS["camera"].camera_turn
        assert all(getattr(one, field) <= 0.7 * most[name] for name, field in LARGEST.items())
        assert one.start_spread is None or one.start_spread <= 0.7 * PERTURBATIONS["start"].start_spread
        assert not set(one.table) & set(HELD_OUT_PATTERNS) and not set(one.distractors) & set(HELD_OUT_DISTRACTORS)
        assert one.delay == 0.0
    assert any(one.table for one in drawn) and any(one.distractors for one in drawn)


def test_every_pattern_and_distractor_is_in_the_model(cell: TabletopEnv) -> None:
    for name in (*HELD_OUT_PATTERNS, *TRAINING_PATTERNS):
        assert cell.model.material(name).id >= 0
    for name in (*HELD_OUT_DISTRACTORS, *TRAINING_DISTRACTORS):
        assert cell.model.body(name).id >= 0


def test_drawn_patterns_differ_and_repeat() -> None:
    drawn = [draw_pattern(np.random.default_rng(seed)) for seed in range(12)]
    assert all(one.shape == (128, 128, 3) and one.dtype == np.uint8 for one in drawn)
    assert len({one.tobytes() for one in drawn}) == 12
    assert all(one.std(axis=(0, 1)).max() > 2.0 for one in drawn)  # no plain surface
    np.testing.assert_array_equal(drawn[3], draw_pattern(np.random.default_rng(3)))


def test_a_scene_that_looks_otherwise_is_the_same_scene(cell: TabletopEnv) -> None:
    cell.perturbation = Perturbation(distractors=TRAINING_DISTRACTORS[:1])
    cell.reset(4)
    before, shown = cell.render("front"), cell.data.qpos.copy()
    aside = cell.project("front", cell.thing_position(cell.command_wanted.thing))
    cell.look_otherwise(np.random.default_rng(0), Perturbation(table=("table_drawn_3",), camera_shift=0.02))
    after = cell.render("front")
    np.testing.assert_array_equal(cell.data.qpos, shown)
    assert np.abs(after.astype(int) - before).mean() > 5.0
    assert cell.project("front", cell.thing_position(cell.command_wanted.thing)) != aside  # the camera has moved
    assert cell.perturbation.distractors == TRAINING_DISTRACTORS[:1]
    colour = np.array(DISTRACTORS[TRAINING_DISTRACTORS[0]][2][:3])
    assert cell.model.geom(TRAINING_DISTRACTORS[0]).rgba[:3] == pytest.approx(colour)


def test_scenes_that_vary_look_otherwise_every_few_steps(contract: RobotContract) -> None:
    options = CollectionOptions(max_steps=3 * LOOKS, disturbance=0.0, switch=0.0, varied_from=100)
    for seed, varies in ((99, False), (100, True)):
        pictures = make_collector("tabletop", contract, options).collect(seed).arrays["image_front"].astype(int)
        change = np.abs(np.diff(pictures, axis=0)).mean(axis=(1, 2, 3))  # the arm moves, and little else
        assert (change[LOOKS - 1 :: LOOKS].max() > 5.0 * np.median(change)) == varies


def test_only_seeds_from_the_given_one_on_vary() -> None:
    options = CollectionOptions(max_steps=1, varied_from=100)
    collector = make_collector("tabletop", load_contract("panda"), options)
    varied = next(s for s in range(100, 120) if training_variation(np.random.default_rng([s, 2])) != Perturbation())
    for seed, wanted in ((99, Perturbation()), (varied, training_variation(np.random.default_rng([varied, 2])))):
        collector.collect(seed)
        assert collector.env.perturbation == wanted


def test_pick_refuses_what_only_the_furnished_table_has(contract: RobotContract) -> None:
    env = make_env("pick", contract)
    before = env.data.qpos.copy()
    for name in ("table", "distractors"):
        env.perturbation = PERTURBATIONS[name]
        with pytest.raises(SimulationError, match="neither patterns of the table nor distractors"):
            env.reset(3)
        assert np.array_equal(env.data.qpos, before)
    env.perturbation = PERTURBATIONS["light"]
    env.reset(3)
    plain = make_env("pick", contract)
    plain.reset(3)
    assert not np.array_equal(env.model.light_pos, plain.model.light_pos)
    assert [item.name for item in env.objects] == [item.name for item in plain.objects]
    with pytest.raises(SimulationError, match="varied_from needs the tabletop"):
        make_collector("pick", contract, CollectionOptions(varied_from=0))
