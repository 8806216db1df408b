"""From observations and chunks to steps: which action belongs to which observation."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation as Scipy

from vla_ros.actions.decoding import decode
from vla_ros.actions.space import ActionSpace
from vla_ros.data.assembly import EpisodeAssembler, ended
from vla_ros.data.errors import ConventionError, DataError, NotFiniteError, RecordingGapError
from vla_ros.types import ActionChunk, Instruction, Observation, Pose, RobotState

RNG = np.random.default_rng(3)
PERIOD = 0.1


def specification(reference="relative"):
    return ActionSpace.of_one_tool("base", reference, "rotation_vector", "open_is_one", 10.0, 4)


def observation(k, stamp=None):
    pose = Pose(np.array([0.4 + 0.01 * k, 0.1, 0.3]), Scipy.from_rotvec([0.1 * k, 0.2, 0.3]).as_quat())
    state = RobotState(np.full(2, 0.1 * k), np.zeros(2), 0.04, pose, 100.0 + PERIOD * k)
    image = np.full((4, 4, 3), k, np.uint8)
    return Observation({"front": image}, state, None, 100.0 + PERIOD * k if stamp is None else stamp, k)


def chunk(k, spec, instruction=1, sequence=None):
    actions = np.concatenate([RNG.normal(size=(4, 6)) * 0.05, RNG.uniform(0, 1, (4, 1))], axis=1)
    stamp = 100.0 + PERIOD * k
    return ActionChunk(actions, PERIOD, stamp, spec.fingerprint, k, instruction, "test", 1.0, sequence or k)


def assembler(spec):
    one = EpisodeAssembler(spec, ("a", "b"), 0.08, "e", "pick")
    one.instruct(Instruction("pick up the red cube", 1))
    return one


def test_an_observation_goes_with_the_chunk_that_saw_it():
    spec = specification()
    one, steps, chunks = assembler(spec), [], [chunk(k, spec) for k in range(6)]
    for k in range(6):
        steps += one.observe(observation(k))
        one.act(chunks[k])
    steps = ended(steps + one.finish(), True)
    assert [step.index for step in steps] == list(range(6))
    for k, step in enumerate(steps):
        np.testing.assert_array_equal(step.action, chunks[k].actions[0])
        np.testing.assert_allclose(step.proprioception[:5], [0.1 * k, 0.1 * k, 0.4 + 0.01 * k, 0.1, 0.3])
        assert step.images["front"][0, 0, 0] == k
        assert step.timestamp == pytest.approx(PERIOD * k)
        assert (step.instruction, step.success, step.last) == ("pick up the red cube", True, k == 5)


@pytest.mark.parametrize("reference", ["absolute", "relative", "delta"])
def test_an_observation_without_its_own_chunk_takes_the_row_that_is_meant_for_it(reference):
    """The pose that is commanded stays the same, whoever writes it down."""
    spec = specification(reference)
    one, plan = assembler(spec), chunk(0, spec)
    one.act(plan)
    steps = [step for k in range(3) for step in one.observe(observation(k))] + one.finish()
    wanted = decode(plan.actions, spec, observation(0).state.end_effector, 0.08)
    for k, step in enumerate(steps):
        found = decode(step.action[None], step.convention, observation(k).state.end_effector, 0.08)
        np.testing.assert_allclose(found.positions[0], wanted.positions[k], atol=1e-9)
        turned = Scipy.from_quat(found.quaternions[0]).inv() * Scipy.from_quat(wanted.quaternions[k])
        assert turned.magnitude() < 1e-7
        np.testing.assert_allclose(found.openings[0], wanted.openings[k], atol=1e-9)


def test_the_order_of_neighbours_does_not_matter():
    spec = specification()
    chunks = {k: chunk(k, spec) for k in range(8)}
    orders = [
        [item for k in range(8) for item in (observation(k), chunks[k])],
        [item for k in range(8) for item in (chunks[k], observation(k))],
        [item for k in range(8) for item in ([observation(k)] + ([chunks[k - 1]] if k else []))] + [chunks[7]],
    ]
    results = []
    for order in orders:
        one, steps = assembler(spec), []
        for item in order:
            if isinstance(item, Observation):
                steps += one.observe(item)
            else:
                one.act(item)
        results.append(steps + one.finish())
    for other in results[1:]:
        assert [step.index for step in other] == [step.index for step in results[0]]
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a.action, b.action)


def test_what_nothing_was_commanded_for_is_no_step():
    spec = specification()
    one = assembler(spec)
    steps = [step for k in range(3) for step in one.observe(observation(k))]
    one.act(chunk(3, spec))
    one.act(chunk(4, spec, instruction=9))  # serves a sentence that nobody said
    steps += [step for k in range(3, 6) for step in one.observe(observation(k))] + one.finish()
    assert [step.images["front"][0, 0, 0] for step in steps] == [3]
    assert (one.counts.steps, one.counts.without_action) == (1, 5)
    with pytest.raises(DataError, match="no step"):
        ended([], True)


def test_a_chunk_ends_with_its_horizon():
    spec = specification()
    one = assembler(spec)
    one.act(chunk(0, spec))
    steps = [step for k in range(7) for step in one.observe(observation(k))] + one.finish()
    assert len(steps) == 4


def test_a_hole_is_named():
    spec = specification()
    one = assembler(spec)
    for k in (0, 1, 2, 3, 7, 8):
        one.act(chunk(k, spec))
    for k in (0, 1, 2, 3, 7):
        one.observe(observation(k))
    one.observe(observation(8))
    with pytest.raises(RecordingGapError, match=r"0\.40 s without a step behind step 3"):
        one.finish()


def test_a_foreign_convention_is_named():
    one = assembler(specification())
    with pytest.raises(ConventionError, match="'test' follows the action specification"):
        one.act(chunk(0, specification("delta")))


def test_nan_in_a_measurement_is_named():
    spec = specification()
    one = assembler(spec)
    one.act(chunk(0, spec))
    bad = observation(0)
    one.observe(replace(bad, state=replace(bad.state, gripper_opening=float("nan"))))
    with pytest.raises(NotFiniteError, match="proprioception"):
        one.finish()


def test_an_old_observation_is_ignored():
    spec = specification()
    one = assembler(spec)
    one.act(chunk(0, spec))
    for k in (0, 1, 1, 0, 2):
        one.observe(observation(k))
    one.finish()
    assert one.counts.steps == 3
