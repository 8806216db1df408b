"""Recorded data become the samples that the cell's demonstrations become, mixed as asked; what is wrong is named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from vla_ros.actions.decoding import PoseTrajectory, decode, encode
from vla_ros.actions.groups import ActionGroup
from vla_ros.actions.space import ActionSpace
from vla_ros.data.augmentation.language import LanguageAugmentation
from vla_ros.data.catalogue import Line, open_dataset
from vla_ros.data.episodes.demonstrations import DemonstrationWriter, Episode, read_episodes
from vla_ros.data.errors import ConventionError, DataError, MissingColumnError, NotFiniteError
from vla_ros.data.mixture import WINDOW_UPDATES
from vla_ros.data.step import GRIPPER_NAME, POSE_NAMES, Step
from vla_ros.envs.tabletop.tasks import PICK_TEMPLATES, pick_instruction
from vla_ros.errors import VlaError
from vla_ros.language.tokenizer import split_words
from vla_ros.models.build import build_model
from vla_ros.perception.geometry import resize_for_policy
from vla_ros.robot.action_override import with_action
from vla_ros.robot.kinematics import Kinematics
from vla_ros.training.algorithms.behavioral_cloning import make_bundle
from vla_ros.training.datasets.pick import PickDataset
from vla_ros.training.datasets.recorded import Augmentations, RecordedDataset, check_network
from vla_ros.training.datasets.source import SeededBatches
from vla_ros.training.datasets.stored_steps import Recording, store_steps
from vla_ros.types import Pose

VIDEO = 3.0
"""Grey levels that a video may lose, on average."""


@pytest.fixture
def store(recordings, tmp_path):
    """store(folder, ...): bring LeRobot data sets into a cache."""

    def bring(*folders: Path, weights=None, contract=recordings.contract, cache=tmp_path / "cache", **options):
        weights = weights or [1.0] * len(folders)
        lines = [Line("lerobot", folder, weight, options) for folder, weight in zip(folders, weights, strict=True)]
        opened = [Recording(line, open_dataset("lerobot", line.path, **options)) for line in lines]
        return store_steps(opened, contract, cache, lambda episodes, what: episodes)

    return bring


def _both_ways(episode: Episode, contract, sentence: str) -> tuple[Episode, list[Step]]:
    """Return an expert's episode with the commands of its steps as chunks, and the same as steps of one command each.

    The expert's own chunks are plans; a recording holds what was commanded step after step, and the rest is held.
    """
    arrays, action, opening = episode.arrays, contract.action, contract.gripper.max_opening
    asked, count = int(arrays["asked"][0]), len(episode)
    poses = [Pose(p, q) for p, q in zip(arrays["position"], arrays["quaternion"], strict=True)]
    chosen = arrays["actions"][:, asked, 0].astype(np.float64)
    places = arrays["position"] + chosen[:, :3]  # the expert always wants the tool to point down
    chunks = []
    for index, pose in enumerate(poses):
        rows = np.minimum(index + np.arange(action.horizon), count - 1)
        plan = PoseTrajectory(places[rows], np.tile([1.0, 0.0, 0.0, 0.0], (len(rows), 1)), opening * chosen[rows, 6])
        chunks.append(encode(plan, action, pose, opening))
    cameras = [name.removeprefix("image_") for name in arrays if name.startswith("image_")]
    steps = [
        Step(
            {camera: arrays[f"image_{camera}"][index] for camera in cameras},
            sentence,
            np.concatenate([pose.position, pose.quaternion, [arrays["opening"][index]]]),
            chunks[index][0],
            replace(action, horizon=1),
            "pick",
            f"{episode.seed:06d}",
            index,
            index * action.period,
            index == count - 1,
            True,
            (*POSE_NAMES, GRIPPER_NAME),
        )
        for index, pose in enumerate(poses)
    ]
    labels = np.repeat(np.stack(chunks)[:, None].astype(np.float32), arrays["actions"].shape[1], axis=1)
    return replace(episode, arrays={**arrays, "actions": labels}), steps


def test_an_episode_gives_the_same_samples_from_both_kinds_of_files(
    recorded: Path, recordings, store, tmp_path: Path
) -> None:
    contract, episodes = recordings.contract, list(read_episodes(recorded))
    writer, written = DemonstrationWriter(tmp_path / "labelled", contract.action, {}), []
    for episode in episodes:
        name = str(episode.arrays["names"][int(episode.arrays["asked"][0])])
        one, steps = _both_ways(episode, contract, pick_instruction(name))
        writer.write(one)
        written.append(steps)
    cell = PickDataset([tmp_path / "labelled"], ["front", "wrist"], PICK_TEMPLATES, ["red cube", "blue ball"])
    data = RecordedDataset(store(recordings.write(tmp_path / "lerobot", written)), contract)
    assert data.count == cell.count == sum(map(len, episodes))
    assert data.processor.features.action == cell.processor.features.action
    unset, scales = data.processor.statistics, cell.processor.statistics.action.scale
    data = data.with_processor(data.processor.with_statistics(cell.processor.statistics))  # the same numbers out
    asked = np.concatenate([e.arrays["asked"] for e in episodes])
    for index in range(0, data.count, 7):
        other, target = cell.batch(np.array([index]), np.random.default_rng(0))
        inputs, found = data.steps(np.array([index]), [np.random.default_rng(0)])
        np.testing.assert_allclose(inputs.state, other.state, atol=1e-5)
        for part, scale in (("continuous", torch.tensor(scales)), ("binary", 1.0)):
            there = getattr(target, part)[:, asked[index]]
            np.testing.assert_allclose(getattr(found, part)[:, 0] * scale, there * scale, atol=1e-5)
    for camera in ("front", "wrist"):
        target = np.concatenate([e.arrays[f"image_{camera}"] for e in episodes])
        kept = data.parts[0].images.read(camera, np.arange(data.count))
        losses = np.abs(kept.astype(int) - target.astype(int)).mean(axis=(1, 2, 3))
        strangers = np.abs(kept[1:].astype(int) - target[:-1].astype(int)).mean(axis=(1, 2, 3))
        assert losses.max() < VIDEO and losses.mean() < 0.5 * strangers.mean()
    np.testing.assert_allclose(unset.state.first, cell.processor.statistics.state.first, atol=1e-5)


@pytest.mark.parametrize(
    ("motion", "gripper"),
    [
        ({"quantity": "ee_pose", "rotation": "six_d"}, "closed_is_plus"),
        ({"quantity": "ee_pose", "rotation": "quaternion_wxyz"}, "open_is_one"),
        ({"quantity": "ee_delta", "reference": "delta", "rotation": "euler", "euler_order": "xyz"}, "opening"),
        ({"quantity": "ee_delta", "reference": "relative", "rotation": "quaternion"}, "open_is_hundred"),
    ],
)
def test_every_space_of_a_tool_trains(motion, gripper, recordings, store, tmp_path: Path) -> None:
    contract = recordings.contract
    groups = (ActionGroup("arm", frame=contract.base_frame, **motion), ActionGroup("arm", "gripper", gripper=gripper))
    space = ActionSpace(groups, contract.action.rate_hz, 4)
    folder = recordings.write(tmp_path / "set", [recordings.walk("a", 8)])
    other = RecordedDataset(store(folder, contract=with_action(contract, space)), with_action(contract, space))
    (plain,) = store(folder)
    steps = recordings.walk("a", 8)
    inputs, target = other.steps(np.arange(8), [np.random.default_rng(k) for k in range(8)])
    for index, step in enumerate(steps):
        logits = 2.0 * target.binary[index, 0] - 1.0
        chunk = other.processor.actions(target.continuous[index, 0], logits)
        pose, opening = step.end_effector, contract.gripper.max_opening
        found = decode(chunk, space, pose, opening)
        expected = decode(plain.chunks[index, :4], contract.action, pose, opening)
        np.testing.assert_allclose(found.positions, expected.positions, atol=1e-5)
        np.testing.assert_allclose(found.quaternions, expected.quaternions, atol=1e-4)
        np.testing.assert_allclose(found.openings, expected.openings, atol=1e-6)
    bundle, _ = make_bundle(other, with_action(contract, space), "unified", {"size": "tiny"}, {})
    loss, _ = build_model("unified", bundle.model_config).compute_loss(inputs, target)
    assert torch.isfinite(loss)


def test_rotations_that_jump_are_no_targets(recordings, store, tmp_path: Path) -> None:
    """A tool that points down is half a turn from the base: its absolute rotation vector flips."""
    contract = recordings.contract
    down = [
        np.concatenate([step.proprioception[:10], [1.0, 0.0, 0.0, 0.0], [0.04]]) for step in recordings.walk("a", 8)
    ]
    steps = [replace(step, proprioception=one) for step, one in zip(recordings.walk("a", 8), down, strict=True)]
    folder = recordings.write(tmp_path / "set", [steps])
    pose = ActionGroup("arm", "ee_pose", frame=contract.base_frame, rotation="rotation_vector")
    space = replace(contract.action, groups=(pose, contract.action.groups[1]))
    with pytest.raises(DataError, match=r"1 of 1 episodes cannot be learned from.*write the rotation as six_d"):
        store(folder, contract=with_action(contract, space))
    (part,) = store(folder)
    assert len(part) == 8


def test_mixture_is_drawn_in_its_shares_under_one_set_of_statistics(recordings, store, tmp_path: Path) -> None:
    long = recordings.write(tmp_path / "long", [recordings.walk("a", 20, seed=1), recordings.walk("b", 20, seed=2)])
    up = np.array([0.0, 0.0, 0.05, 0.0, 0.0, 0.0, 1.0])
    short = recordings.write(tmp_path / "short", [recordings.walk("a", 6, seed=3, action=up)])
    data = RecordedDataset(store(long, short, weights=[1.0, 3.0]), recordings.contract)
    count = 2000
    sets, index = data.mixture.draw([np.random.default_rng([0, row]) for row in range(count)], 0)
    index += np.where(sets == 1, 40, 0)
    assert abs((sets == 1).sum() - 0.75 * count) < 4.0 * np.sqrt(count * 0.75 * 0.25)
    assert ((index >= 40) == (sets == 1)).all() and set(index.tolist()) == set(range(46))
    for number, part in enumerate(data.parts):
        inputs, rows = data.steps(np.flatnonzero(np.arange(46) // 40 == number), [np.random.default_rng(0)] * len(part))
        output = data.processor.statistics.action.columns(slice(0, 3)).unnormalize(rows.continuous[:, 0, :, :3].numpy())
        np.testing.assert_allclose(output, part.chunks[..., :3], atol=1e-5)
        seen = data.processor.statistics.state.unnormalize(inputs.state.numpy())
        np.testing.assert_allclose(seen, part.states, atol=1e-5)
    shared = 0.25 * data.parts[0].chunks[..., 2].mean(axis=0) + 0.75 * data.parts[1].chunks[..., 2].mean(axis=0)
    np.testing.assert_allclose(data.processor.statistics.action.first[:, 2], shared, atol=1e-6)
    assert [(line["share"], line["steps"], line["episodes"]) for line in data.table()] == [(0.25, 40, 2), (0.75, 6, 1)]
    with pytest.raises(DataError, match="weights must be positive"):
        RecordedDataset(store(long, short, weights=[1.0, 0.0]), recordings.contract)
    with pytest.raises(DataError, match="each name once"):
        RecordedDataset(store(long, long), recordings.contract)


def test_a_batch_is_decided_by_seed_and_number_and_its_shares_make_the_whole(recordings, store, tmp_path: Path) -> None:
    from vla_ros.data.augmentation.images import ImageSettings
    from vla_ros.training.datasets.recorded_images import PerImageAugmentation

    parts = store(recordings.write(tmp_path / "set", [recordings.walk("a", 8)]))
    changes = Augmentations(PerImageAugmentation(ImageSettings()), LanguageAugmentation(slip=0.0))
    data = RecordedDataset(parts, recordings.contract, changes)

    def tensors(update: int, part: int, shares: int) -> list[torch.Tensor]:
        inputs, target = SeededBatches(data, 4, 0).batch(update, part, shares)
        return [inputs.images["wrist"], inputs.state, inputs.tokens, target.continuous]

    whole = tensors(7, 0, 1)
    for one, other in zip(whole, tensors(7, 0, 1), strict=True):
        assert torch.equal(one, other)
    for one, *halves in zip(whole, tensors(7, 0, 2), tensors(7, 1, 2), strict=True):
        assert torch.equal(one, torch.cat(halves))
    assert not torch.equal(whole[0], tensors(8, 0, 1)[0])


def test_changed_sentences_stay_within_the_vocabulary_and_the_length(recordings, store, tmp_path: Path) -> None:
    parts = store(
        recordings.write(tmp_path / "set", [recordings.walk("a", 2, instruction="put it on top of the cube")])
    )
    change = LanguageAugmentation(synonym=0.9, frame=0.9, slip=0.0)
    data = RecordedDataset(parts, recordings.contract, Augmentations(language=change))
    assert {"block", "onto", "please"} <= set(data.taught) and "sphere" not in data.taught
    output = {change("put it on top of the cube", np.random.default_rng(seed)) for seed in range(200)}
    assert len(output) > 20
    for sentence in output:
        assert data.processor.tokenizer.unknown(sentence) == []
        assert len(split_words(sentence)) <= data.processor.features.words


def test_failures_are_left_out_and_counted(recordings, store, tmp_path: Path) -> None:
    episodes = [recordings.walk("a", 4), recordings.walk("b", 5, success=False), recordings.walk("c", 3, success=None)]
    (part,) = store(recordings.write(tmp_path / "set", episodes))
    assert (len(part), len(part.lengths), part.failed) == (7, 2, 1)
    with pytest.raises(DataError, match=r"no episode to learn from \(1 are marked as failures\)"):
        store(recordings.write(tmp_path / "failed", [recordings.walk("b", 5, success=False)]))


def test_an_episode_is_decoded_once(recordings, store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vla_ros.data.lerobot.reader import LeRobotReader

    folder = recordings.write(tmp_path / "set", [recordings.walk("a", 4)])
    (first,) = store(folder)
    first.images.prepare(0)
    read: list[bool] = []
    inner = LeRobotReader.read

    def note(self, episode, *, images=True):
        read.append(images)
        return inner(self, episode, images=images)

    monkeypatch.setattr(LeRobotReader, "read", note)
    (again,) = store(folder)
    again.images.read("front", np.arange(4))
    assert read == [] and again.images.folder == first.images.folder
    np.testing.assert_array_equal(again.chunks, first.chunks)
    changed = replace(recordings.contract, action=replace(recordings.contract.action, horizon=5))
    (other,) = store(folder, contract=changed)
    other.images.prepare(0)
    assert other.chunks.shape[1] == 5 and read == [False, True]
    assert [p.name for p in first.images.folder.parent.iterdir() if "partial" in p.name] == []
    assert [p.name for p in first.images.folder.iterdir() if p.name.startswith(".")] == []


def test_a_larger_picture_of_the_same_shape_is_shrunk_and_any_other_refused(recordings, store, tmp_path: Path) -> None:
    double = {name: (2 * h, 2 * w) for name, (h, w) in recordings.sizes.items()}
    (part,) = store(recordings.write(tmp_path / "large", [recordings.walk("a", 2, sizes=double)], video_files=False))
    image = part.images.read("front", np.array([0]))[0]
    np.testing.assert_array_equal(
        image, resize_for_policy(recordings.walk("a", 2, sizes=double)[0].images["front"], *recordings.sizes["front"])
    )
    square = dict.fromkeys(recordings.sizes, (128, 128))
    with pytest.raises(DataError, match=r"camera 'front': the image is 128 x 128, the policy sees 96 x 128"):
        store(recordings.write(tmp_path / "square", [recordings.walk("a", 2, sizes=square)]))[0].images.prepare(0)
    half = {name: (h // 2, w // 2) for name, (h, w) in recordings.sizes.items()}
    with pytest.raises(DataError, match="nothing is cut, stretched or enlarged"):
        store(recordings.write(tmp_path / "half", [recordings.walk("a", 2, sizes=half)]))[0].images.prepare(0)


def test_a_small_cache_shows_every_episode_and_keeps_few(recordings, store, tmp_path: Path) -> None:
    episodes = [recordings.walk(str(n), 3 + n % 2, seed=n) for n in range(8)]
    folder = recordings.write(tmp_path / "set", episodes, video_files=False)
    (part,) = store(folder)
    limit = 0.5 * len(part) * part.images.bytes_per_step()
    data = RecordedDataset([part], recordings.contract, cache_bytes=limit)
    whole = RecordedDataset(store(folder, cache=tmp_path / "whole"), recordings.contract)
    seen, sizes = set(), []
    for update in range(0, 40 * WINDOW_UPDATES, WINDOW_UPDATES):
        generators = [np.random.default_rng([update, row]) for row in range(16)]
        steps = data.mixture.draw(generators, update)[1]
        seen |= set(steps.tolist())
        again = [np.random.default_rng([update, row]) for row in range(16)]
        inputs, _ = data.rows(again, update)
        there, _ = whole.steps(steps, generators)
        assert torch.equal(inputs.images["front"], there.images["front"])
        sizes.append(sum(path.stat().st_size for path in part.images.folder.glob("*.rgb")))
    assert seen == set(range(len(part))) and max(sizes) <= limit
    assert not whole.mixture.windowed and data.mixture.windowed


@pytest.fixture
def refused(recordings, store, tmp_path):
    """refused(error, text, ...): a data set of these steps is refused before anything is decoded."""

    def look(error, text, **changes):
        steps = [recordings.walk("fine", 3), recordings.walk("wrong", 3, seed=1, **changes)]
        folder = recordings.write(tmp_path / "set", steps)
        with pytest.raises(error, match=text):
            store(folder)
        assert not (tmp_path / "cache").exists()

    return look


def test_every_line_that_does_not_fit_is_said_at_once(recordings, store, tmp_path: Path) -> None:
    other = recordings.convention.in_frame("world")
    steps = recordings.walk("a", 3, convention=other, proprioception=np.zeros(1), proprioception_names=("joint",))
    steps = [replace(step, images={"top": step.images["front"]}) for step in steps]
    with pytest.raises(ConventionError) as error:
        store(recordings.write(tmp_path / "set", [steps], max_opening=0.05))
    for line in (
        "does not fit robot 'panda'",
        "frame is 'world' there, 'panda_link0' here",
        "max_opening is 0.05 m there, 0.08 m here",
        r"cameras ['front', 'wrist'] are not there, it has ['top']",
        "'tool_x'",
        "the gripper's opening",
        "rename_cameras",
    ):
        assert line in str(error.value)


def test_a_camera_of_another_name_is_a_missing_one(recordings, store, tmp_path: Path) -> None:
    steps = [replace(s, images={"top": s.images["front"], "wrist": s.images["wrist"]}) for s in recordings.walk("a", 2)]
    folder = recordings.write(tmp_path / "set", [steps])
    with pytest.raises(MissingColumnError, match=r"cameras \['front'\] are not there, it has \['top', 'wrist'\]"):
        store(folder)
    assert len(store(folder, rename_cameras={"top": "front"})[0]) == 2


def test_store_leaves_an_odd_episode_out_and_counts_it(recordings, store, tmp_path: Path) -> None:
    fine = [recordings.walk("fine", 6), recordings.walk("also", 7, seed=1)]
    for name, changes in {"silent": {"instruction": " "}, "frozen": {"timestamp": 0.0}}.items():
        folder = recordings.write(tmp_path / name, [fine[0], recordings.walk(name, 5, seed=2), fine[1]])
        if "timestamp" in changes:
            _edit(folder, "observation.stamp", lambda stamps: [*stamps[:6], *[0.0] * 5, *stamps[11:]])
        else:
            folder = recordings.write(tmp_path / f"{name}_2", [fine[0], recordings.walk(name, 5, **changes), fine[1]])
        (part,) = store(folder)
        assert (len(part), len(part.lengths), part.failed, len(part.odd)) == (13, 2, 0, 1)
        assert f"episode '{name}', step " in part.odd[0]
        (line,) = RecordedDataset([part], recordings.contract).left_out()
        assert "1 that cannot be learned from" in line and part.odd[0] in line
        assert store(folder)[0].odd == part.odd  # from the cache


def _edit(folder: Path, column: str, change) -> None:  # type: ignore[no-untyped-def]
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = next((folder / "data").rglob("*.parquet"))
    table = pq.read_table(path)
    index = table.column_names.index(column)
    values = pa.array(change(table[column].to_pylist()), table.schema.field(column).type)
    pq.write_table(table.set_column(index, column, values), path)


def test_store_refuses_a_set_that_is_mostly_odd(recordings, store, tmp_path: Path) -> None:
    silent = [recordings.walk("a", 3, instruction=" "), recordings.walk("b", 3, instruction=" ")]
    folder = recordings.write(tmp_path / "set", [*silent, recordings.walk("c", 3)])
    with pytest.raises(DataError, match=r"2 of 3 episodes cannot.*episode 'a', step 0 has no instruction"):
        store(folder)
    assert not (tmp_path / "cache").exists()


def _moved(steps: list[Step], place, turn) -> list[Step]:  # type: ignore[no-untyped-def]
    """Return steps whose tool is somewhere else: `place` and `turn` change its position and its quaternion."""
    moved = []
    for step in steps:
        state = step.proprioception.copy()
        state[7:10], state[10:14] = place(state[7:10]), turn(state[10:14])
        moved.append(replace(step, proprioception=state))
    return moved


def _same(values):  # type: ignore[no-untyped-def]
    return values


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"place": lambda p: 1000.0 * p}, "is it in meters"),
        ({"place": lambda p: p + 30.0 * (p - [0.5, 0.0, 0.2])}, "is no motion of this robot.*millimeters"),
        ({"turn": lambda q: np.roll(q, 1)}, r"turns elsewhere than it is sent.*\(x, y, z, w\)"),
        ({"action": [0.0, 0.0, 10.0, 0.0, 0.0, 0.02, 1.0]}, "is no motion of this robot.*millimeters"),
        ({"action": [0.0, 0.0, 0.01, 0.0, 0.0, 1.2, 1.0]}, "is no motion of this robot.*degrees"),
        ({"action": [0.0, 0.0, 0.01, 0.0, 0.0, 57.0, 1.0]}, "is it in degrees"),
        ({"action": [0.0, 0.0, -0.01, 0.0, 0.0, 0.02, 1.0]}, "moves elsewhere than it is sent"),
    ],
)
def test_store_refuses_motion_of_no_robot(change, says, recordings, store, tmp_path: Path) -> None:
    action = {"action": np.array(change["action"])} if "action" in change else {}
    steps = [_yawing(step) for step in recordings.walk("a", 20, **action)]
    store(recordings.write(tmp_path / "right", [[_yawing(step) for step in recordings.walk("a", 20)]]))
    steps = _moved(steps, change.get("place", _same), change.get("turn", _same))
    with pytest.raises(DataError, match=says):
        store(recordings.write(tmp_path / "set", [steps]))


@pytest.mark.parametrize(
    ("change", "fits"),
    [
        ({}, True),
        ({"turn": lambda q: np.roll(q, 1)}, False),
        ({"place": lambda p: np.add(p, (0.0, 0.0, 0.1))}, False),
        ({"degrees": True}, False),
    ],
)
def test_store_compares_the_tool_with_the_joints(change, fits, recordings, store, tmp_path: Path) -> None:
    """Of an arm that stands still no motion tells in which order its quaternion is written."""
    contract = recordings.contract
    joints = contract.joints.home + 0.1
    pose = Kinematics(contract).forward(joints)
    state = np.concatenate([joints, pose.position, pose.quaternion, [0.04]])
    names = (*contract.joints.names, *recordings.names[7:])
    steps = recordings.walk("a", 5, proprioception=state, proprioception_names=names)
    steps = _moved(steps, change.get("place", _same), change.get("turn", _same))
    if change.get("degrees"):
        steps = [replace(s, proprioception=s.proprioception * np.where(np.arange(15) < 7, 57.3, 1.0)) for s in steps]
    folder = recordings.write(tmp_path / "set", [steps])
    if fits:
        assert store(folder)[0].odd == ()
        return
    with pytest.raises(DataError, match="off from where the joints put it"):
        store(folder)


def _yawing(step: Step) -> Step:
    """Return a step whose tool points down, as it does over a table, and turns about the vertical."""
    angle, state = 0.05 * step.index, step.proprioception.copy()
    state[10:14] = np.cos(angle), np.sin(angle), 0.0, 0.0
    return replace(step, proprioception=state)


def test_a_gripper_out_of_range_is_named(refused) -> None:
    shut = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0])
    refused(ConventionError, "gripper is commanded from -1.0000 to", action=shut)


def test_not_a_number_is_named(recordings, store, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = recordings.write(tmp_path / "set", [recordings.walk("a", 3), recordings.walk("b", 3, seed=1)])
    path = next((folder / "data").rglob("*.parquet"))
    table = pq.read_table(path)
    states = np.array(table["observation.state"].to_pylist(), np.float32)
    states[4, 7] = np.nan
    column = pa.FixedSizeListArray.from_arrays(pa.array(states.ravel()), states.shape[1])
    pq.write_table(table.set_column(table.column_names.index("observation.state"), "observation.state", column), path)
    with pytest.raises(NotFiniteError, match=r"episode 'b', step 1: column 'observation\.state'"):
        store(folder)
    assert not (tmp_path / "cache").exists()


def test_networks_that_are_taught_places_are_refused_by_name() -> None:
    for name in ("keypoint", "compositional", "grounded"):
        with pytest.raises(VlaError, match=f"'{name}' needs labels of the named object's position.*'flow'"):
            check_network(name)
    check_network("flow")
