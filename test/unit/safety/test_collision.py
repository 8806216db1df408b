"""Distances against closed forms and finite differences; motions that would collide, and ways out."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import coal
import numpy as np
import pinocchio
import pytest

from vla_ros.errors import ContractError
from vla_ros.robot.contract import load_contract
from vla_ros.safety.motion.collision import CollisionModel, _extent
from vla_ros.safety.motion.obstacles import Obstacle, Shape
from vla_ros.safety.reasons import Reason
from vla_ros.safety.selftest.shadow import Shadow
from vla_ros.types import SafetyState


@pytest.fixture(scope="module")
def model(contract, parameters):
    return CollisionModel(contract, parameters.collision, parameters.obstacles)


def index_of(model, *words):
    return next(i for i, pair in enumerate(model.pairs) if all(word in pair.name for word in words))


def test_the_fingers_are_as_far_over_the_table_as_the_drawing_says(model, contract, referee):
    """At home the tool points down; the finger tips are 10 mm beyond the tool frame: 0.0584 + 0.055 - 0.1034 m."""
    height = referee.tool(contract.joints.home)[2]
    distance = model.distances(contract.joints.home)[index_of(model, "leftfinger", "table")]
    assert distance == pytest.approx(height - 0.010, abs=1e-3)


def test_neighbours_and_what_stands_on_the_table_are_left_out(model):
    names = [pair.name for pair in model.pairs]
    assert not any("link0" in name and "table" in name for name in names)
    assert not any("link1" in name and "link2" in name for name in names)
    assert any("link1" in name and "link3" in name for name in names)


@pytest.mark.parametrize("seed", range(5))
def test_rows_are_the_derivatives_of_the_distances(contract, parameters, seed):
    wide = replace(parameters.collision, influence_distance=2.0)
    model = CollisionModel(contract, wide, parameters.obstacles)
    rng = np.random.default_rng(seed)
    q = contract.joints.home + rng.uniform(-0.5, 0.5, 7)
    direction = rng.normal(size=7)
    _, near = model.approaches(q)
    assert near.pairs == tuple(model.pairs)
    step = 1e-4
    derivative = (model.distances(q + step * direction) - model.distances(q - step * direction)) / (2 * step)
    error = np.abs(near.rows @ direction - derivative)
    # Where the nearest edge changes within the step there is no derivative: two pairs of about ninety at most.
    assert np.sort(error)[-3] < 0.02 * np.abs(derivative).max()


STRETCHED = np.array([0.0, 1.2, 0.0, -0.4, 0.0, 1.6, 0.0])


@pytest.mark.parametrize(
    ("start", "step"),
    [
        (STRETCHED, 0.1 * np.eye(7)[1]),  # one joint swings the whole arm down to the table
        (STRETCHED - 0.3, 0.01 * np.ones(7)),
        (np.zeros(7), np.array([0.5, -0.4, 0.3, -2.0, 0.7, 1.0, -1.0])),
    ],
)
def test_looking_only_at_the_pairs_that_can_be_near_misses_none(model, start, step):
    """Whichever pair it is, it is found when it is a tenth of a millimetre too near."""
    end = start + step
    before, after = model.distances(start), model.distances(end)
    least = np.min([model.distances(q) for q in densely([start, end], 60)], axis=0)
    for index, pair in enumerate(model.pairs):
        held = np.full(len(model.pairs), -np.inf)
        held[index] = least[index] - 1e-3
        assert model.violated_along(np.vstack([start, end]), held, before) is None
        held[index] = after[index] + 1e-4
        assert model.violated_along(np.vstack([start, end]), held, before) is pair


def test_the_shapes_of_a_mesh_count_from_the_joint_and_not_from_their_middle(meshed, parameters):
    """Its triangle is 7 mm across and 3 m out: what a joint's turn may do to a distance goes by the 3 m."""
    floor = Obstacle.box("floor", np.array([10.0, 10.0, 0.04]), np.array([0.0, 0.0, -0.02]))
    model = CollisionModel(meshed, parameters.collision, (floor,))
    start = meshed.joints.home - 1.5 * np.eye(7)[5]  # the hand lies flat, and so does the way to the mesh
    for step in (0.1, -0.1):
        end = start + step * np.eye(7)[5]
        before, after = model.distances(start), model.distances(end)
        assert np.abs(after - before).max() > 0.25
        for index, pair in enumerate(model.pairs):
            held = np.full(len(model.pairs), -np.inf)
            held[index] = after[index] + 1e-4
            assert model.violated_along(np.vstack([start, end]), held, before) is pair


def test_the_reach_of_a_placed_shape_covers_its_corners():
    """A turned and shifted triangle, 1 m out in its own axes: its furthest corner, by hand."""
    corners = np.array([[1.0, 0.0, 0.0], [1.01, 0.0, 0.0], [1.0, 0.01, 0.0]])
    mesh = coal.BVHModelOBBRSS()
    mesh.beginModel(1, 3)
    mesh.addTriangle(*corners)
    mesh.endModel()
    placement = pinocchio.SE3(pinocchio.rpy.rpyToMatrix(0.3, -0.4, 0.5), np.array([0.2, 0.1, -0.3]))
    furthest = max(float(np.linalg.norm(placement.act(corner))) for corner in corners)
    reach = _extent(pinocchio.GeometryObject("flag", 0, 0, placement, mesh))
    assert furthest <= reach <= furthest + 0.02


def test_a_mesh_that_is_not_there_is_named(meshed, parameters, tmp_path):
    text = meshed.urdf.read_text(encoding="utf-8").replace("flag.stl", "nowhere.stl")
    (tmp_path / "arm.urdf").write_text(text, encoding="utf-8")
    with pytest.raises(ContractError, match=r"nowhere.stl"):
        CollisionModel(replace(meshed, urdf=tmp_path / "arm.urdf"), parameters.collision, parameters.obstacles)


def test_a_home_inside_of_an_obstacle_is_refused(contract, parameters):
    block = Obstacle.box("block", np.full(3, 0.3), np.array([0.45, 0.0, 0.3]))
    with pytest.raises(ContractError, match="block"):
        CollisionModel(contract, parameters.collision, (block,))


def with_block(rig_type, contract, parameters, position, size):
    block = Obstacle.box("block", np.array(size), np.array(position))
    return rig_type(contract, replace(parameters, obstacles=(*parameters.obstacles, block)))


def smallest(model, commands, word):
    rows = [i for i, pair in enumerate(model.pairs) if word in pair.name]
    return min(float(model.distances(q)[rows].min()) for q in commands)


def test_a_keep_out_volume_is_kept_out_of_and_passed_along(rig, contract, parameters, referee):
    rig = with_block(type(rig), contract, parameters, (0.45, 0.30, 0.2), (0.3, 0.1, 0.6))
    model = CollisionModel(contract, parameters.collision, rig.parameters.obstacles)
    rig.start()
    height = rig.pose().position[2]
    decision = rig.run_towards(rig.pose().position + np.array([0.0, 0.35, 0.1]), 300)
    assert decision.state is SafetyState.RUN
    assert decision.reason == "obstacle"
    assert "block" in decision.sentence
    assert smallest(model, rig.commands, "block") >= parameters.collision.obstacle_distance - 1e-4
    assert rig.pose().position[2] > height + 0.05  # it slid up along the block
    referee.accept(rig.commands)
    before = rig.pose().position[1]
    rig.run_towards(rig.pose().position - np.array([0.0, 0.2, 0.0]), 100)  # the way back is open at full speed
    assert rig.pose().position[1] < before - 0.15


def test_the_fingers_do_not_touch_the_table(rig, contract, parameters, referee, model):
    rig.start()
    decision = rig.run_towards(rig.pose().position - np.array([0.0, 0.0, 0.35]), 250)
    assert decision.state is SafetyState.RUN
    tip = smallest(model, rig.commands, "table")
    assert parameters.collision.obstacle_distance - 1e-4 <= tip < parameters.collision.obstacle_distance + 2.5e-3
    referee.accept(rig.commands)


def test_over_the_table_the_arm_slides_and_does_not_stick(rig, contract, parameters, referee, model):
    """Asked for places under the table, to and fro, the tool follows along its surface."""
    rig.start()
    decisions = []
    for x, y in ((0.45, 0.1), (0.60, -0.1), (0.45, 0.1), (0.60, -0.1)):
        for i in range(250):
            if i % 10 == 0:
                assert rig.ask(np.array([x, y, -0.1])) is Reason.OK
            decisions.append(rig.tick())
        np.testing.assert_allclose(rig.pose().position[:2], [x, y], atol=0.01)
    assert all(d.state is SafetyState.RUN for d in decisions)
    assert smallest(model, rig.commands, "table") >= parameters.collision.obstacle_distance - 1e-4
    referee.accept(rig.commands)


def test_a_start_in_collision_can_be_left_but_not_made_worse(rig, contract, parameters):
    """The block appears where the arm already is."""
    probe = with_block(type(rig), contract, parameters, (0.46, 0.36, 0.3), (0.1, 0.4, 0.2))
    clear = probe.q.copy()
    probe.q = probe.q + np.array([0.32, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    model = CollisionModel(contract, parameters.collision, probe.parameters.obstacles)
    inside = smallest(model, [probe.q], "block")
    assert inside < -0.01
    probe.commands = [probe.q.copy()]
    probe.start()
    probe.run_towards(probe.pose().position + np.array([0.0, 0.2, 0.0]), 150)
    assert smallest(model, probe.commands, "block") >= inside - 1e-3
    for _ in range(4):
        probe.run_towards(probe.kinematics.forward(clear).position, 100)
    assert smallest(model, [probe.q], "block") > 0.0


def test_the_arm_does_not_fold_into_itself(rig, contract, parameters, referee, model):
    """Far behind its own base: joint by joint nothing forbids it, the workspace and the shapes do."""
    rig.start()
    for target in ((0.25, 0.0, 0.05), (0.25, 0.0, 0.6), (0.25, 0.4, 0.02)):
        rig.run_towards(np.array(target), 200)
    rows = [i for i, pair in enumerate(model.pairs) if pair.reason.label == "self_collision"]
    closest = min(float(model.distances(q)[rows].min()) for q in rig.commands)
    assert closest >= parameters.collision.self_distance - 1e-3
    referee.accept(rig.commands)


def test_switched_off_nothing_is_watched(rig, contract, parameters):
    off = replace(parameters, collision=replace(parameters.collision, enabled=False))
    rig = type(rig)(contract, off)
    rig.start()
    rig.run_towards(rig.pose().position - np.array([0.0, 0.0, 0.35]), 250)
    assert rig.pose().position[2] < 0.007  # the tool frame's own limit; the tips are 10 mm lower


def slow_layer(parameters, *obstacles, rate=10.0):
    timing = replace(parameters.timing, rate_hz=rate)
    return replace(parameters, timing=timing, obstacles=(*parameters.obstacles, *obstacles))


def densely(commands, parts=11):
    """Postures between commands, on straight lines in joint space."""
    moves = [(a, b) for a, b in pairwise(commands) if (a != b).any()]
    return [a + share * (b - a) for a, b in moves for share in np.linspace(0.0, 1.0, parts)]


def test_sweep_thin_sheet_at_ten_hertz_is_not_touched(contract, parameters):
    """At 10 Hz the tool moves by 50 mm a tick, past the edges of a turned sheet of 4 mm, and through them."""
    rng = np.random.default_rng(41)
    position = np.array([rng.uniform(0.45, 0.62), rng.uniform(0.05, 0.2) * rng.choice([-1, 1]), rng.uniform(0.2, 0.5)])
    size = np.array([0.004, rng.uniform(0.05, 0.3), rng.uniform(0.05, 0.3)])
    sheet = Obstacle("sheet", Shape.BOX, size, position, rng.uniform(-np.pi, np.pi, 3))
    slow = slow_layer(parameters, sheet)
    shadow, model = Shadow(contract, slow), CollisionModel(contract, slow.collision, slow.obstacles)
    shadow.start()
    for i in range(200):
        here = shadow.pose().position
        if i % 15 == 0:
            goal = 2.0 * position - here if i % 2 else position + rng.uniform(-0.15, 0.15, 3)
        way = goal - here
        shares = np.minimum(0.05 * np.arange(1, contract.action.horizon + 1) / (np.linalg.norm(way) + 1e-9), 1.0)
        shadow.ask(here + np.outer(shares, way))
        shadow.tick()
    assert np.abs(np.diff(shadow.commands, axis=0)).max() > 0.02  # it moved
    nearest = smallest(model, densely(shadow.commands), "sheet")
    assert nearest > 0.5 * parameters.collision.obstacle_distance


@pytest.mark.parametrize("seed", range(6))
def test_sweep_finds_what_dense_sampling_finds(contract, parameters, seed):
    """Whatever pair of a random motion comes nearest on the way: asked for more than it keeps, it is named."""
    rng = np.random.default_rng(seed)
    post = Obstacle.box("post", np.array([0.004, 0.004, 0.6]), np.array([0.5, 0.25, 0.3]))
    model = CollisionModel(contract, parameters.collision, (*parameters.obstacles, post))
    start = contract.joints.home + rng.uniform(-0.3, 0.3, 7)
    path = np.vstack([start, start + np.cumsum(rng.uniform(-0.25, 0.25, (4, 7)), axis=0)])
    least = np.min([model.distances(q) for q in densely(path, 60)], axis=0)
    before = model.distances(start)
    for index, pair in enumerate(model.pairs):
        slack = max(pair.distance, 1e-3)
        held = np.full(len(model.pairs), -10.0)
        held[index] = least[index] + slack + 1e-3
        assert model.violated_along(path, held, before) is pair
        held[index] = least[index] - 1e-3  # dense sampling is not exact either
        assert model.violated_along(path, held, before) is None


def test_sweep_distance_that_is_no_number_is_violated(model, contract, monkeypatch):
    home, held = contract.joints.home, np.full(len(model.pairs), -np.inf)
    held[0] = 0.0
    path = np.vstack([home, home + 0.1])
    distances = np.full(len(model.pairs), np.nan)
    monkeypatch.setattr(
        "vla_ros.safety.motion.collision.pinocchio.computeDistance", lambda *_: SimpleNamespace(min_distance=np.nan)
    )
    assert model.violated_along(path, held, distances) is model.pairs[0]


@pytest.mark.parametrize("robot", ["panda", "fr3", "ur5e", "so101"])
def test_self_distance_raised_drops_no_pair(parameters, robot):
    """What stands nearer at home than is asked for keeps what it has there, and is named."""
    robot = load_contract(robot)
    usual = CollisionModel(robot, parameters.collision, parameters.obstacles)
    wide = CollisionModel(robot, replace(parameters.collision, self_distance=0.2), parameters.obstacles)
    assert usual.concessions == ()
    assert [pair.name for pair in wide.pairs] == [pair.name for pair in usual.pairs]
    at_home = wide.distances(robot.joints.home)
    assert (at_home >= [pair.distance for pair in wide.pairs]).all()
    less = [pair for pair in wide.pairs if pair.reason is Reason.SELF_COLLISION and pair.distance < 0.2]
    assert less
    assert len(less) == len(wide.concessions)
    for pair, sentence in zip(less, wide.concessions, strict=True):
        assert pair.name in sentence
        assert pair.distance == pytest.approx(at_home[wide.pairs.index(pair)], abs=1e-3)


def test_shapes_that_overlap_at_home_are_named(contract, parameters, tmp_path):
    """A sphere on the hand that reaches into the forearm cannot be watched, and is not silently dropped."""
    ball = '<collision><geometry><sphere radius="0.25"/></geometry></collision>'
    text, link = contract.urdf.read_text(encoding="utf-8"), '<link name="panda_link7">'
    (tmp_path / "arm.urdf").write_text(text.replace(link, link + ball), encoding="utf-8")
    model = CollisionModel(replace(contract, urdf=tmp_path / "arm.urdf"), parameters.collision, parameters.obstacles)
    assert any("panda_link5" in one and "not watched" in one for one in model.concessions)
    assert not any("panda_link6" in one and "panda_link7" in one for one in model.concessions)  # neighbors
