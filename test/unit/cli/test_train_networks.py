"""`vla-ros collect`, `vla-ros train --model <name>` and the policy that comes of it, for every network."""

import json
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from vla_ros.cli import main as cli
from vla_ros.envs.registry import make_env
from vla_ros.errors import CheckpointError, InstructionError, ObservationError
from vla_ros.models.build import MODELS
from vla_ros.models.checkpoint import load_bundle
from vla_ros.policies.asynchronous import InferenceWorker, WorkerState
from vla_ros.policies.build import load_policy
from vla_ros.policies.protocol import Policy
from vla_ros.robot.contract import load_contract
from vla_ros.types import Instruction, Observation

CONTRACT = load_contract("panda")
DEADLINE = 60.0
RED, BLUE = Instruction("pick up the red cube", 5), Instruction("pick up the blue cube", 6)
STEPS = 3


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Two episodes, as the command collects them."""
    folder = tmp_path_factory.mktemp("data") / "pick"
    words = ["collect", "--episodes", "2", "--seed", "500", "--processes", "1", "--out", str(folder)]
    assert cli.main(words) == 0
    return folder


@pytest.fixture(scope="module")
def observations():
    cell = make_env("pick", CONTRACT)
    seen = []
    for seed in range(3):
        cell.reset(seed)
        state = cell.state()
        seen.append(Observation(cell.policy_images(), state, None, state.stamp, 17 + seed))
    return seen


@pytest.fixture(scope="module")
def trained(recorded, tmp_path_factory):
    """trained(name): the folder of a checkpoint that the command wrote, once a run."""
    kept: dict[str, Path] = {}

    def get(name):
        if name not in kept:
            out = tmp_path_factory.mktemp("trained") / name
            words = [
                "train",
                "--model",
                name,
                "--size",
                "tiny",
                "--data",
                str(recorded),
                "--out",
                str(out),
                "--steps",
                str(STEPS),
                "--batch",
                "2",
                "--device",
                "cpu",
                "--threads",
                "1",
                "--json",
            ]
            assert cli.main(words) == 0
            kept[name] = out
        return kept[name]

    return get


@pytest.fixture(params=MODELS)
def checkpoint(request, trained):
    if request.param in ("clip", "memory_efficient", "real_time"):
        pytest.importorskip("transformers")
    return trained(request.param)


ELSEWHERE = """
import numpy as np, torch
from vla_ros.policies.build import load_policy
from vla_ros.robot.contract import load_contract
from vla_ros.types import Instruction, Observation
from vla_ros.envs.registry import make_env
torch.set_num_threads(1)
contract = load_contract("panda")
cell = make_env("pick", contract)
cell.reset(0)

def answer(checkpoint, file):
    policy = load_policy(checkpoint, contract, "cpu")
    policy.reset(Instruction("pick up the red cube", 5))
    np.save(file, policy.predict(Observation(cell.policy_images(), cell.state(), None, 1.0, 1)).actions)
"""


@pytest.fixture(scope="module")
def elsewhere(another_process):
    return another_process(ELSEWHERE)


def test_the_policy_predicts_the_same_in_another_process(checkpoint, observations, tmp_path, elsewhere):
    policy = load_policy(str(checkpoint), CONTRACT, "cpu")
    assert isinstance(policy, Policy)
    policy.reset(RED)
    chunk = policy.predict(observations[0])
    assert chunk.actions.shape == (CONTRACT.action.horizon, CONTRACT.action.width)
    assert chunk.policy == f"{checkpoint.name}:{checkpoint.name}"
    elsewhere(str(checkpoint), str(tmp_path / "a.npy"))
    np.testing.assert_allclose(np.load(tmp_path / "a.npy"), chunk.actions, rtol=0.0, atol=1e-6)


def test_the_policy_node_s_worker_runs_it(checkpoint, observations):
    chunks, arrived = [], threading.Semaphore(0)

    def keep(chunk):
        chunks.append(chunk)
        arrived.release()

    worker = InferenceWorker(load_policy(str(checkpoint), CONTRACT, "cpu"), keep, stale_after=DEADLINE)
    try:
        for instruction in (RED, BLUE):
            worker.instruct(instruction)
            worker.offer(observations[0])
            assert arrived.acquire(timeout=DEADLINE), worker.status()
        assert [chunk.instruction_sequence for chunk in chunks] == [5, 6]
        assert worker.status().state is WorkerState.RUNNING
    finally:
        assert worker.close(DEADLINE)


def test_bad_input_is_named(checkpoint, observations):
    policy = load_policy(str(checkpoint), CONTRACT, "cpu")
    with pytest.raises(InstructionError, match="call reset"):
        policy.predict(observations[0])
    with pytest.raises(InstructionError, match=r"not taught \['purple', 'dragon'\]; it knows"):
        policy.reset(Instruction("pick up the purple dragon"))
    policy.reset(RED)
    one = replace(observations[0], images={"front": observations[0].images["front"]})
    with pytest.raises(ObservationError, match=r"needs camera 'wrist', the observation has \['front'\]"):
        policy.predict(one)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_it_runs_in_the_precision_that_is_asked_for(precision, checkpoint, observations):
    exact, half = (load_policy(str(checkpoint), CONTRACT, "cpu", p) for p in ("fp32", precision))
    chunks = []
    for policy in (exact, half):
        policy.reset(RED)
        chunks.append(policy.predict(observations[0]).actions)
    assert not np.array_equal(*chunks)
    assert np.median(np.abs(chunks[0] - chunks[1])) < 0.01  # m and rad
    with pytest.raises(CheckpointError, match="precision is 'fp8', expected one of fp32, bf16, fp16"):
        load_policy(str(checkpoint), CONTRACT, "cpu", "fp8")


def test_what_it_thought_can_be_asked(checkpoint, observations):
    policy = load_policy(str(checkpoint), CONTRACT, "cpu")
    policy.reset(RED)
    seen = policy.inspect(observations[0])
    assert {"continuous", "binary", "present"} <= set(seen.heads)
    assert bool(seen.attention) == (checkpoint.name != "real_time")


def test_the_command_takes_sizes_and_lines(recorded, tmp_path, capsys):
    words = [
        "train",
        "--model",
        "flow",
        "--size",
        "tiny",
        "--set",
        "width=32",
        "seed=3",
        "--data",
        str(recorded),
        "--out",
        str(tmp_path),
        "--steps",
        "1",
        "--batch",
        "1",
        "--device",
        "cpu",
        "--json",
    ]
    assert cli.main(words) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["checkpoint"] == str(tmp_path)
    bundle = load_bundle(tmp_path)
    assert (bundle.model_config["width"], bundle.model_config["seed"], bundle.model_config["layers"]) == (32, 3, 2)
    assert "--model flow --size tiny --set width=32 seed=3 --data" in bundle.training["command"]


def test_a_checkpoint_with_a_published_backbone_needs_its_folder_no_more(recorded, observations, tmp_path):
    pytest.importorskip("transformers")
    from vla_ros.models.layers.backbones import build_tower

    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    build_tower("vit", {**sizes, "patch_size": 32, "image_size": 96}).save_pretrained(tmp_path / "vit")
    words = [
        "train",
        "--model",
        "foundation",
        "--size",
        "tiny",
        "--set",
        f"vision={tmp_path / 'vit'}",
        "--data",
        str(recorded),
        "--out",
        str(tmp_path / "policy"),
        "--steps",
        "1",
        "--batch",
        "1",
        "--device",
        "cpu",
    ]
    assert cli.main(words) == 0
    shutil.rmtree(tmp_path / "vit")
    bundle = load_bundle(tmp_path / "policy")
    assert bundle.model_config["vision"]["kind"] == "vit"
    assert bundle.training["published"] == {"vision": str(tmp_path / "vit")}
    policy = load_policy(str(tmp_path / "policy"), CONTRACT, "cpu")
    policy.reset(RED)
    assert policy.predict(observations[0]).actions.shape == (12, 7)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--model", "difusion"], "did you mean 'diffusion'"),
        (["--model", "flow", "--set", "widht=3"], "widht"),
        (["--model", "flow", "--set", "width"], "expected name=value"),
        (["--model", "foundation", "--set", "vision=/nowhere/at/all"], "name the folder"),
    ],
)
def test_what_cannot_be_trained_is_said(words, says, recorded, tmp_path, capsys):
    assert cli.main(["train", *words, "--data", str(recorded), "--out", str(tmp_path), "--device", "cpu"]) == 1
    assert says in capsys.readouterr().err


def test_the_policy_reads_an_instruction_once(trained, observations):
    """What the words say is kept from picture to picture and ends with the task."""
    pytest.importorskip("transformers")
    policy = load_policy(str(trained("real_time")), CONTRACT, "cpu")
    policy.reset(RED)
    for observation in observations:
        policy.predict(observation)
    assert policy._cache.reads == 1
    policy.reset(BLUE)
    assert policy._cache.reads == 0
    policy.predict(observations[0])
    assert policy._cache.reads == 1


def test_a_recurrent_policy_remembers_until_the_next_instruction(recorded, observations, tmp_path):
    pytest.importorskip("transformers")
    words = [
        "train",
        "--model",
        "real_time",
        "--size",
        "tiny",
        "--set",
        "recurrent=true",
        "--data",
        str(recorded),
        "--out",
        str(tmp_path),
        "--steps",
        "1",
        "--batch",
        "1",
        "--device",
        "cpu",
    ]
    assert cli.main(words) == 0
    policy = load_policy(str(tmp_path), CONTRACT, "cpu")
    policy.reset(RED)
    first = policy.predict(observations[0]).actions
    second = policy.predict(observations[0]).actions
    assert np.abs(first - second).max() > 1e-7  # the same picture, but no longer the first
    policy.reset(RED)
    np.testing.assert_array_equal(policy.predict(observations[0]).actions, first)


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
