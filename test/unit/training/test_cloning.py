"""The whole way from recordings to a policy that acts: train, save, resume, load, predict, refuse."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from vla_ros.envs.registry import make_env
from vla_ros.errors import CheckpointError, InstructionError, ObservationError, VlaError
from vla_ros.models.checkpoint import load_checkpoint
from vla_ros.policies.build import load_policy
from vla_ros.policies.local import LocalPolicy
from vla_ros.policies.protocol import Policy
from vla_ros.processing.normalizer import Normalizer
from vla_ros.robot.contract import load_contract, parse_contract
from vla_ros.training.algorithms.behavioral_cloning import BcOptions, train_policy
from vla_ros.training.datasets.pick import PickDataset
from vla_ros.training.datasets.source import SeededBatches
from vla_ros.training.loop import TrainingLoop
from vla_ros.training.loop_options import LoopOptions
from vla_ros.types import Instruction, Observation

CONTRACT = load_contract("panda")
CPU = torch.device("cpu")


@pytest.fixture(scope="session")
def trained(dataset: PickDataset, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float, float]:
    torch.set_num_threads(2)
    out = tmp_path_factory.mktemp("trained")
    losses: list[float] = []
    loop = LoopOptions(steps=100, learning_rate=2e-3, warm_up=10, save_every=50)
    last = train_policy(
        dataset,
        CONTRACT,
        "keypoint",
        out,
        BcOptions(loop, batch=6),
        CPU,
        lambda record: losses.append(record.loss),
    )
    return out, losses[0], last


@pytest.fixture(scope="module")
def observation() -> Observation:
    cell = make_env("pick", CONTRACT)
    cell.reset(0)
    state = cell.state()
    return Observation(cell.policy_images(), state, None, state.stamp, 17)


def test_training_brings_the_loss_down(trained: tuple[Path, float, float]) -> None:
    _, early, late = trained
    assert late < 0.9 * early


def test_the_policy_answers_with_a_chunk_of_its_convention(
    trained: tuple[Path, float, float], observation: Observation
) -> None:
    policy = load_policy(str(trained[0]), CONTRACT, "cpu")
    assert isinstance(policy, Policy)
    policy.reset(Instruction("pick up the red cube", 5))
    chunk = policy.predict(observation)
    assert chunk.actions.shape == (12, 7) and chunk.specification == CONTRACT.action.fingerprint
    assert (chunk.observation_sequence, chunk.instruction_sequence) == (17, 5)
    assert chunk.observation_stamp == observation.stamp and set(np.unique(chunk.actions[:, 6])) <= {0.0, 1.0}
    again = load_policy(str(trained[0]), CONTRACT, "cpu")
    again.reset(Instruction("pick up the red cube", 5))
    np.testing.assert_allclose(again.predict(observation).actions, chunk.actions, atol=1e-6)


def test_words_change_the_plan(trained: tuple[Path, float, float], observation: Observation) -> None:
    policy = load_policy(str(trained[0]), CONTRACT, "cpu")
    plans = []
    for text in ("pick up the red cube", "pick up the blue ball"):
        policy.reset(Instruction(text))
        plans.append(policy.predict(observation).actions)
    assert np.abs(plans[0] - plans[1]).max() > 1e-4


def test_words_it_was_never_taught_are_named(trained: tuple[Path, float, float]) -> None:
    policy = load_policy(str(trained[0]), CONTRACT, "cpu")
    with pytest.raises(InstructionError, match=r"\['purple', 'dragon'\]"):
        policy.reset(Instruction("pick up the purple dragon"))


def test_a_chunk_without_an_instruction_or_a_camera_is_refused(
    trained: tuple[Path, float, float], observation: Observation
) -> None:
    policy = load_policy(str(trained[0]), CONTRACT, "cpu")
    with pytest.raises(InstructionError, match="call reset"):
        policy.predict(observation)
    policy.reset(Instruction("pick up the red cube"))
    with pytest.raises(ObservationError, match="needs camera"):
        policy.predict(replace(observation, images={"front": observation.images["front"]}))
    small = {name: image[::2] for name, image in observation.images.items()}
    with pytest.raises(ObservationError, match="the image is 48 x 128, the policy sees 96 x 128"):
        policy.predict(replace(observation, images=small))


def test_training_resumes_where_it_stopped(dataset: PickDataset, trained: tuple[Path, float, float]) -> None:
    from vla_ros.models.build import build_model
    from vla_ros.models.checkpoint import load_bundle

    network = build_model("keypoint", load_bundle(trained[0]).model_config)
    loop = TrainingLoop(network, LoopOptions(steps=102, warm_up=10), CPU)
    assert loop.resume(trained[0]) and loop.step == 100
    loop.run(SeededBatches(dataset, 2, 0))
    assert loop.step == 102
    assert not TrainingLoop(network, LoopOptions(steps=1), CPU).resume(trained[0] / "nothing")


def _grown(dataset: PickDataset) -> PickDataset:
    """The same steps as if there were more of them: what is learned does not matter, only what it is normalized by."""
    statistics = dataset.processor.statistics
    state = Normalizer.by_mean(statistics.state.first + 1.0, statistics.state.second)
    other = dataset.with_processor(dataset.processor.with_statistics(replace(statistics, state=state)))
    other.episodes = dataset.episodes + 1
    return other


@pytest.fixture(scope="module")
def begun(dataset: PickDataset, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, BcOptions]:
    out, options = tmp_path_factory.mktemp("begun"), BcOptions(LoopOptions(steps=2, warm_up=1), 4, resume=True)
    train_policy(dataset, CONTRACT, "keypoint", out, options, CPU)
    return out, options


def test_weights_go_on_with_no_other_data(begun: tuple[Path, BcOptions], dataset: PickDataset) -> None:
    """They would read its numbers as if they were normalized as before."""
    out, options = begun
    policy = (out / "policy.json").read_bytes()
    with pytest.raises(VlaError, match=r"data\.episodes: 3 then, 4 now; data\.statistics: .*normalizers: .*anew"):
        train_policy(_grown(dataset), CONTRACT, "keypoint", out, options, CPU)
    assert (out / "policy.json").read_bytes() == policy


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"batch": 5}, "batch: 4 then, 5 now"),
        ({"seed": 3}, "seed: 0 then, 3 now"),
        ({"model_options": {"hidden": 96}}, r'model_config: .* then, .*"hidden": 96.* now'),
        ({"loop": LoopOptions(steps=2, warm_up=1, learning_rate=0.5)}, r"loop\.learning_rate: 0.001 then, 0.5 now"),
    ],
)
def test_weights_go_on_with_no_other_options(
    begun: tuple[Path, BcOptions], dataset: PickDataset, changes: dict[str, object], says: str
) -> None:
    with pytest.raises(VlaError, match=says):
        train_policy(dataset, CONTRACT, "keypoint", begun[0], replace(begun[1], **changes), CPU)


def test_weights_go_on_for_longer_and_from_a_state_that_does_not_say_what_they_belong_to(
    begun: tuple[Path, BcOptions], dataset: PickDataset, tmp_path: Path
) -> None:
    out, options = begun
    state = torch.load(out / "training_state.pt", weights_only=True)
    assert {"clip", "average", "parts"} <= {*json.loads(state["belongs_to"])["loop"]}  # the keys of earlier versions
    del state["belongs_to"]  # as earlier versions wrote it
    torch.save(state, tmp_path / "training_state.pt")
    longer = replace(options, loop=LoopOptions(steps=4, warm_up=1, report_every=1))
    for folder in (out, tmp_path):
        steps: list[int] = []
        train_policy(dataset, CONTRACT, "keypoint", folder, longer, CPU, lambda r, s=steps: s.append(r.step))
        assert steps == [3, 4]


def test_weights_that_the_description_was_not_written_for_are_refused(
    begun: tuple[Path, BcOptions], dataset: PickDataset, tmp_path: Path
) -> None:
    """As when saving is cut off between the two files."""
    out, options = begun
    train_policy(dataset, CONTRACT, "keypoint", tmp_path / "other", replace(options, seed=1), CPU)
    (tmp_path / "policy.json").write_text((out / "policy.json").read_text())
    (tmp_path / "weights.safetensors").write_bytes((tmp_path / "other" / "weights.safetensors").read_bytes())
    with pytest.raises(CheckpointError, match=r"holds other weights than policy\.json was written for"):
        load_checkpoint(tmp_path, CPU)
    values = json.loads((tmp_path / "policy.json").read_text())
    del values["weights_sha256"]  # as earlier versions wrote it
    (tmp_path / "policy.json").write_text(json.dumps(values))
    load_checkpoint(tmp_path, CPU)


def test_a_missing_or_damaged_checkpoint_is_named(trained: tuple[Path, float, float], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint 'nowhere'"):
        load_policy("nowhere", CONTRACT, "cpu")
    with pytest.raises(CheckpointError, match=r"policy\.json is missing"):
        LocalPolicy(tmp_path, CONTRACT, "cpu")
    (tmp_path / "policy.json").write_text((trained[0] / "policy.json").read_text())
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        LocalPolicy(tmp_path, CONTRACT, "cpu")
    (tmp_path / "weights.safetensors").write_bytes((trained[0] / "weights.safetensors").read_bytes()[:-64])
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        LocalPolicy(tmp_path, CONTRACT, "cpu")
    values = json.loads((trained[0] / "policy.json").read_text())
    del values["processor"]["statistics"]["state"]
    (tmp_path / "policy.json").write_text(json.dumps(values))
    with pytest.raises(CheckpointError, match="'state'"):
        LocalPolicy(tmp_path, CONTRACT, "cpu")


def test_poisoned_weights_are_refused(trained: tuple[Path, float, float], tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(trained[0] / "weights.safetensors")
    next(iter(weights.values())).view(-1)[0] = float("nan")
    save_file(weights, tmp_path / "weights.safetensors")
    (tmp_path / "policy.json").write_text((trained[0] / "policy.json").read_text())
    with pytest.raises(CheckpointError, match="not finite"):
        LocalPolicy(tmp_path, CONTRACT, "cpu")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("max_opening: 0.08", "max_opening: 0.10", r"gripper\.max_opening: trained with 0\.08"),
        ("end_effector_frame: panda_tcp", "end_effector_frame: panda_hand", "end_effector_frame"),
        ("policy_height: 96", "policy_height: 64", r"cameras\.front\.policy_height"),
        ("reference: relative", "reference: delta", "reference: trained with relative, the robot has delta"),
    ],
)
def test_a_checkpoint_of_another_robot_is_refused_line_by_line(
    trained: tuple[Path, float, float], old: str, new: str, says: str
) -> None:
    assert old in CONTRACT.text
    other = parse_contract(CONTRACT.text.replace(old, new))
    with pytest.raises(CheckpointError, match=says):
        load_policy(str(trained[0]), other, "cpu")


def test_a_part_begins_anew_and_the_rest_goes_on(dataset: PickDataset, tmp_path: Path) -> None:
    loop = LoopOptions(steps=2, learning_rate=1e-2, warm_up=0, ema_decay=0.0)
    train_policy(dataset, CONTRACT, "keypoint", tmp_path / "base", BcOptions(loop, batch=4), CPU)
    base, _ = load_checkpoint(tmp_path / "base", CPU)
    part = next(name for name, _ in base.named_children())
    barely = replace(loop, steps=1, learning_rate=1e-9)
    options = BcOptions(barely, 4, reinit_modules=[part], start_from=tmp_path / "base")
    train_policy(dataset, CONTRACT, "keypoint", tmp_path / "after", options, CPU)
    after, _ = load_checkpoint(tmp_path / "after", CPU)
    pairs = zip(base.named_parameters(), after.parameters(), strict=True)
    changed = {name.split(".")[0] for name, *_ in [(n, o, a) for (n, o), a in pairs if (o - a).abs().max() > 1e-6]}
    assert changed == {part}
    with pytest.raises(VlaError, match="no part 'ears'"):
        train_policy(dataset, CONTRACT, "keypoint", tmp_path / "no", replace(options, reinit_modules=["ears"]), CPU)


def test_words_that_a_checkpoint_has_no_place_for_are_named(dataset: PickDataset, tmp_path: Path) -> None:
    """Else they would be taught as one and the same unknown word."""
    loop = LoopOptions(steps=1, warm_up=0)
    train_policy(dataset, CONTRACT, "keypoint", tmp_path / "base", BcOptions(loop, batch=4), CPU)
    other = copy.copy(dataset)
    other.taught = (*dataset.taught, "saucer")
    with pytest.raises(VlaError, match=r"no place for the taught words \['saucer'\]"):
        train_policy(
            other, CONTRACT, "keypoint", tmp_path / "no", BcOptions(loop, 4, start_from=tmp_path / "base"), CPU
        )
