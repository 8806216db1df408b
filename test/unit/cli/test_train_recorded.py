"""`vla-ros train --data <a LeRobot data set>`: from files that this package's writer made to a policy that acts."""

import json
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("pyarrow")

import torch

from vla_ros.cli import main as cli
from vla_ros.data.episodes.demonstrations import DemonstrationWriter
from vla_ros.data.step import GRIPPER_NAME, POSE_NAMES
from vla_ros.envs.collector import CollectionOptions
from vla_ros.envs.registry import make_collector, make_env
from vla_ros.envs.tabletop.tasks import pick_instruction
from vla_ros.errors import VlaError
from vla_ros.models.build import MODELS, model_class
from vla_ros.models.checkpoint import load_bundle, load_checkpoint
from vla_ros.paths import share_file
from vla_ros.policies.build import load_policy
from vla_ros.training.configuration import load_training_config
from vla_ros.training.datasets.recorded_data import recorded_lines
from vla_ros.training.loop import STATE_FILE, TrainingLoop
from vla_ros.types import Instruction, Observation

SHIPPED = share_file("checkpoints")
ABLE = [name for name in MODELS if not model_class(name).LEARNS_PLACES]


@pytest.fixture(scope="module")
def expert(recordings, tmp_path_factory):
    """Two episodes of the cell's expert as a LeRobot data set."""
    collector = make_collector(
        "pick", recordings.contract, CollectionOptions(max_steps=20, switch=0.0, disturbance=0.0)
    )
    episodes = []
    for seed in (0, 1):
        rows = collector.collect(seed).arrays
        asked = int(rows["asked"][0])
        count = len(rows["opening"])
        steps = recordings.walk(f"{seed:06d}", count, instruction=pick_instruction(str(rows["names"][asked])))
        episodes.append(
            [
                type(step)(
                    **{
                        **vars(step),
                        "images": {name: rows[f"image_{name}"][i] for name in recordings.sizes},
                        "proprioception": np.concatenate(
                            [rows["position"][i], rows["quaternion"][i], [rows["opening"][i]]]
                        ),
                        "proprioception_names": (*POSE_NAMES, GRIPPER_NAME),
                        "action": rows["actions"][i, asked, 0],
                    }
                )
                for i, step in enumerate(steps)
            ]
        )
    return recordings.write(tmp_path_factory.mktemp("expert") / "lerobot", episodes)


@pytest.fixture
def train(monkeypatch, tmp_path):
    """train(data, ...): the command, in a folder of its own; returns its exit code."""
    monkeypatch.chdir(tmp_path)

    def run(*words, model="unified", steps=3, out="out"):
        given = [
            "train",
            "--model",
            model,
            "--size",
            "tiny",
            "--out",
            out,
            "--steps",
            steps,
            "--batch",
            2,
            "--device",
            "cpu",
            "--threads",
            1,
            "--json",
            *words,
        ]
        return cli.main([str(word) for word in given])

    return run


@pytest.mark.parametrize("name", ABLE)
def test_every_network_that_needs_no_places_learns_from_it_and_acts(name, expert, train, recordings, tmp_path):
    if name in ("clip", "memory_efficient", "real_time"):
        pytest.importorskip("transformers")
    assert train("--data", expert, model=name) == 0
    bundle = load_bundle(tmp_path / "out")
    assert bundle.action == recordings.contract.action and bundle.contract == recordings.contract.text
    assert bundle.training["data"][0]["episodes"] == 2 and "--data" in bundle.training["command"]
    cell = make_env("pick", recordings.contract)
    cell.reset(0)
    policy = load_policy(str(tmp_path / "out"), recordings.contract, "cpu")
    policy.reset(Instruction(cell.instruction))
    state = cell.state()
    chunk = policy.predict(Observation(cell.policy_images(), state, None, state.stamp))
    assert chunk.actions.shape == (12, 7) and chunk.specification == recordings.contract.action.fingerprint
    assert np.isfinite(chunk.actions).all() and np.abs(chunk.actions[:, :3]).max() < 0.5


def test_a_training_that_stopped_goes_on_as_if_it_had_not(expert, train, tmp_path, monkeypatch):
    assert train("--data", expert, steps=4, out="whole") == 0
    config = tmp_path / "half.yaml"
    lines = {"model": "unified", "out": "half", "batch": 2, "model_options": {"size": "tiny"}}
    config.write_text(json.dumps({**lines, "data": {"folders": [str(expert)]}, "loop": {"steps": 4}}))
    words = ["train", "--config", str(config), "--device", "cpu", "--threads", "1"]
    run = TrainingLoop.run
    with monkeypatch.context() as patch:
        patch.setattr(TrainingLoop, "run", lambda *given, **options: run(*given, 2, **options))
        assert cli.main(words) == 0
    assert torch.load(tmp_path / "half" / STATE_FILE, weights_only=True)["step"] == 2
    assert cli.main(words) == 0
    whole, half = (load_checkpoint(tmp_path / name, torch.device("cpu"))[0] for name in ("whole", "half"))
    for one, other in zip(whole.parameters(), half.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_table_mixes_data_sets(expert, recordings, train, tmp_path):
    other = recordings.write(tmp_path / "walk", [recordings.walk("a", 5, instruction="wander about")])
    table = tmp_path / "table.yaml"
    table.write_text(
        json.dumps(
            [
                {"format": "lerobot", "path": str(other), "weight": 1},
                {"format": "lerobot", "path": str(expert), "weight": 3},
            ]
        )
    )
    assert train("--data", table) == 0
    bundle = load_bundle(tmp_path / "out")
    assert [line["share"] for line in bundle.training["data"]] == [0.25, 0.75]
    assert {"wander", "about", "pick"} <= set(bundle.words)
    places = [step.proprioception[7:10] for step in recordings.walk("a", 5)]
    assert not np.allclose(
        bundle.processor.statistics.state.first[:3], np.mean(places, axis=0), atol=1e-3
    )  # of all, not of the first alone


def test_a_slower_data_set_is_resampled(recordings, train, tmp_path):
    slow = replace(recordings.convention, rate_hz=5.0)
    steps = [replace(step, timestamp=step.index / 5.0) for step in recordings.walk("a", 6, convention=slow)]
    assert train("--data", recordings.write(tmp_path / "slow", [steps])) == 0
    assert load_bundle(tmp_path / "out").action == recordings.contract.action


def test_robomimic_file_trains_through_a_table(train, tmp_path):
    h5py = pytest.importorskip("h5py")
    count, size = 12, (96, 128, 3)
    controller = {"type": "OSC_POSE", "control_delta": True, "output_max": [0.05] * 3 + [0.5] * 3}
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        data = file.create_group("data")
        environment = {"env_kwargs": {"control_freq": 20, "controller_configs": controller}}
        data.attrs["env_args"] = np.bytes_(json.dumps(environment))
        for name in ("demo_0", "demo_0_copy"):
            observed = data.create_group(f"{name}/obs")
            data[f"{name}/actions"] = np.tile([0.0, 0.0, 0.2, 0.0, 0.0, 0.0, -1.0], (count, 1))
            data[f"{name}/rewards"] = np.zeros(count)
            observed["robot0_eef_pos"] = np.array([[0.5, 0.0, 0.3 + 0.01 * i] for i in range(count)])
            observed["robot0_eef_quat"] = np.tile([1.0, 0.0, 0.0, 0.0], (count, 1))
            observed["robot0_joint_pos"] = np.zeros((count, 7))
            observed["robot0_gripper_qpos"] = np.tile([0.04, -0.04], (count, 1))
            for camera in ("agentview_image", "robot0_eye_in_hand_image"):
                observed[camera] = np.full((count, *size), 90, np.uint8)
    table = tmp_path / "table.yaml"
    line = {
        "format": "hdf5",
        "path": str(tmp_path / "a.hdf5"),
        "weight": 1,
        "frame": "panda_link0",
        "rename_cameras": {"agentview": "front", "eye_in_hand": "wrist"},
        "instruction": "lift it",
    }
    table.write_text(json.dumps([line]))
    assert train("--data", table) == 0
    bundle = load_bundle(tmp_path / "out")
    assert (bundle.training["data"][0]["episodes"], bundle.words) == (2, ("it", "lift"))
    # at 20 Hz 1 cm a step, so at the robot's 10 Hz 2 cm for each row
    np.testing.assert_allclose(
        bundle.processor.statistics.action.first[:3, 2], [0.23 / 12, 0.42 / 12, 0.57 / 12], atol=1e-5
    )


@pytest.fixture
def said(train, capsys):
    """said(...): what the command says when it refuses."""

    def words(*given, **options):
        assert train(*given, **options) == 1
        return capsys.readouterr().err

    return words


def test_what_cannot_be_taught_is_refused_before_anything_is_read(expert, said, tmp_path):
    for model in ("keypoint", "compositional", "grounded"):
        assert f"'{model}' needs labels of the named object's position" in said("--data", expert, model=model)
    assert not (tmp_path / "runs").exists() and not (tmp_path / "out").exists()


def test_a_data_set_that_does_not_fit_is_refused(recordings, said, tmp_path):
    steps = recordings.walk("a", 3, convention=recordings.convention.in_frame("world"))
    folder = recordings.write(tmp_path / "other", [steps])
    assert "frame is 'world' there, 'panda_link0' here" in said("--data", folder)
    assert "is not there" in said("--data", _table(tmp_path, "lerobot", tmp_path / "nowhere"))
    assert "there is no format 'parquet'" in said("--data", _table(tmp_path, "parquet", folder))


def _table(folder, kind, path):
    table = folder / f"{kind}.yaml"
    table.write_text(json.dumps([{"format": kind, "path": str(path), "weight": 1}]))
    return table


def test_demonstrations_of_the_cell_are_not_mixed_with_recorded_ones(expert, recordings, said, tmp_path):
    DemonstrationWriter(tmp_path / "cell", recordings.contract.action, {})
    assert "are not mixed" in said("--data", expert, tmp_path / "cell")


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ("method: dagger\ndata: {folders: [SET]}\n", "method 'dagger' needs the workcell's expert"),
        ("model: unified\ndata: {folders: [SET], episodes: 3}\n", "nothing is collected"),
        ("data: {image_augmentation: {crop: 0.9}}\n", "change recorded data, not"),
        ("start_from: checkpoints/pick\nmodel: unified\ndata: {folders: [SET]}\n", "'keypoint' needs labels"),
    ],
)
def test_a_file_that_asks_for_what_recordings_cannot_give(lines, says, expert, tmp_path):
    path = tmp_path / "training.yaml"
    path.write_text("loop: {steps: 5}\n" + lines.replace("SET", str(expert)).replace("checkpoints", str(SHIPPED)))
    with pytest.raises(VlaError, match=says):
        recorded_lines(load_training_config(path))


def test_a_file_says_the_mixture_and_what_is_changed_in_a_row(expert, train, tmp_path):
    path = tmp_path / "training.yaml"
    path.write_text(
        "model: unified\nmodel_options: {size: tiny}\nout: out\nbatch: 2\nloop: {steps: 2}\ndata:\n"
        f"  mixture:\n    - {{format: lerobot, path: {expert}, weight: 1}}\n"
        "  image_augmentation: {crop: 0.95, cutout: 0.0}\n  language_augmentation: {slip: 0.0}\n"
    )
    assert cli.main(["train", "--config", str(path), "--device", "cpu", "--threads", "1"]) == 0
    assert "please" in load_bundle(tmp_path / "out").words
