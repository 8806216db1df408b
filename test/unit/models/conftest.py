"""Thirty-two recorded steps of the simulated pick task, made once a run."""

from typing import NamedTuple

import numpy as np
import pytest
import torch

from vla_ros.data.episodes.demonstrations import DemonstrationWriter
from vla_ros.envs.collector import CollectionOptions
from vla_ros.envs.registry import make_collector
from vla_ros.envs.tabletop.objects import COLOURS, SHAPES
from vla_ros.envs.tabletop.tasks import PICK_TEMPLATES
from vla_ros.models.checkpoint import PolicyBundle, save_checkpoint
from vla_ros.models.contract import ModelInput, ModelTarget
from vla_ros.robot.contract import load_contract
from vla_ros.training.datasets.pick import PickDataset

EPISODES, STEPS = 4, 8


class Frames(NamedTuple):
    """32 scenes with N sentences each (the last of each scene about an object that is not there)."""

    inputs: ModelInput
    target: ModelTarget


@pytest.fixture(scope="session")
def dataset(tmp_path_factory):
    contract = load_contract("panda")
    folder = tmp_path_factory.mktemp("frames")
    writer = DemonstrationWriter(folder, contract.action, {})
    collector = make_collector("pick", contract, CollectionOptions(max_steps=STEPS, switch=0.0))
    for seed in range(EPISODES):
        writer.write(collector.collect(seed))
    kinds = [f"{colour} {shape}" for colour in COLOURS for shape in SHAPES]
    return PickDataset([folder], [c.name for c in contract.cameras], PICK_TEMPLATES, kinds)


@pytest.fixture(scope="session")
def frames(dataset):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        inputs, target = dataset.batch(np.arange(EPISODES * STEPS), np.random.default_rng(0))
    return Frames(inputs, target)


@pytest.fixture(scope="session")
def sizes(dataset, frames):
    """What every network is built from."""
    return {
        "cameras": {name: tuple(image.shape[-2:]) for name, image in frames.inputs.images.items()},
        "vocabulary": dataset.processor.tokenizer.size,
        "state_width": frames.inputs.state.shape[-1],
        "horizon": frames.target.continuous.shape[2],
    }


def scenes(inputs, index):
    """Return the scenes `index` (a slice or indices) of a `ModelInput`."""
    return ModelInput(
        {name: image[index] for name, image in inputs.images.items()}, inputs.state[index], inputs.tokens[index]
    )


def targets(target, index):
    """Return the scenes `index` of a `ModelTarget`."""
    return ModelTarget(
        continuous=target.continuous[index],
        binary=target.binary[index],
        target_visible=target.target_visible[index],
        target=target.target[index],
        pixels={name: pixels[index] for name, pixels in target.pixels.items()},
        concepts={name: classes[index] for name, classes in target.concepts.items()},
    )


@pytest.fixture(scope="session")
def train(frames):
    """train(network, steps, rate, batch=8): overfit the frames."""

    def run(network, steps, rate, batch=8):
        network.train()
        optimiser = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=0.0)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps)
        torch.set_num_threads(1)
        order = torch.Generator().manual_seed(0)
        for _ in range(steps):
            index = torch.randperm(len(frames.inputs.state), generator=order)[:batch]
            loss, _ = network.compute_loss(scenes(frames.inputs, index), targets(frames.target, index))
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            schedule.step()
        network.eval()

    return run


@pytest.fixture(scope="session")
def errors(frames):
    """errors(output): mean absolute errors over the sentences about objects that are there, normalized units."""

    def measure(output):
        there = frames.target.target_visible.bool()
        target = frames.target
        return {
            "position": float((output.continuous - target.continuous)[there][..., :3].abs().mean()),
            "rotation": float((output.continuous - target.continuous)[there][..., 3:].abs().mean()),
            "gripper": float(((output.binary > 0) != (target.binary > 0.5))[there].float().mean()),
        }

    return measure


ELSEWHERE = """
import torch
from pathlib import Path
from vla_ros.models.checkpoint import load_checkpoint
from vla_ros.models.contract import ModelInput
torch.set_num_threads(1)

def answer(folder):
    folder = Path(folder)
    network, _ = load_checkpoint(folder, torch.device("cpu"))
    inputs = torch.load(folder / "inputs.pt", weights_only=True)
    torch.manual_seed(0)
    with torch.no_grad():
        output = network.predict(ModelInput(**inputs))
    torch.save([output.continuous, output.binary], folder / "output.pt")
"""


@pytest.fixture(scope="session")
def elsewhere(another_process):
    return another_process(ELSEWHERE)


@pytest.fixture
def predict_elsewhere(tmp_path, dataset, frames, elsewhere):
    """predict_elsewhere(name, config, network, inputs): save, load in another process, predict there.

    Returns (continuous, binary); `torch.manual_seed(0)` comes right before `predict`.
    """

    def run(name, config, network, inputs):
        contract = load_contract("panda").text
        bundle = PolicyBundle(name, config, processor=dataset.processor, contract=contract, training={})
        save_checkpoint(tmp_path, network, bundle)
        torch.save(
            {"images": dict(inputs.images), "state": inputs.state, "tokens": inputs.tokens}, tmp_path / "inputs.pt"
        )
        elsewhere(str(tmp_path))
        return torch.load(tmp_path / "output.pt", weights_only=True)

    return run


@pytest.fixture(autouse=True)
def _one_thread():
    """Small networks are slower on several threads, and figures repeat on one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
