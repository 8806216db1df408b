"""Overfits every tiny network on 32 recorded frames of the pick task, and draws where it looks.

    python benchmarks/networks.py --json --picture docs/images/networks_look.png

Prints for each the errors reached (normalized units; a fraction for the gripper), the fastest training step of 8
scenes, and the change of its positions with other images and other instructions. The image shows a frame of the front
camera and where each network looks for the named object: attention of the color word if words attend, else of the
whole instruction.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from vla_ros.data.episodes.demonstrations import DemonstrationWriter
from vla_ros.envs.collector import CollectionOptions
from vla_ros.envs.registry import make_collector
from vla_ros.envs.tabletop.objects import COLOURS, SHAPES
from vla_ros.envs.tabletop.tasks import PICK_TEMPLATES
from vla_ros.models.batch import ModelInput, ModelTarget
from vla_ros.models.build import MODELS, build_model, sized_config
from vla_ros.models.contract import VlaModel
from vla_ros.robot.contract import load_contract
from vla_ros.training.datasets.pick import PickDataset

EPISODES, STEPS, BATCH, RATE = 4, 8, 8, 3e-3
CAMERA = "front"


def frames() -> tuple[PickDataset, ModelInput, ModelTarget]:
    """Return the 32 recorded frames that the tests use."""
    contract = load_contract("panda")
    with tempfile.TemporaryDirectory() as folder:
        writer = DemonstrationWriter(Path(folder), contract.action, {})
        collector = make_collector("pick", contract, CollectionOptions(max_steps=STEPS, switch=0.0))
        for seed in range(EPISODES):
            writer.write(collector.collect(seed))
        kinds = [f"{colour} {shape}" for colour in COLOURS for shape in SHAPES]
        dataset = PickDataset([Path(folder)], [c.name for c in contract.cameras], PICK_TEMPLATES, kinds)
    return dataset, *dataset.batch(np.arange(EPISODES * STEPS), np.random.default_rng(0))


def some(batch: Any, index: torch.Tensor) -> Any:
    """Return the samples `index` of an input or a target."""
    parts = {
        name: {key: value[index] for key, value in part.items()} if isinstance(part, dict) else part[index]
        for name, part in vars(batch).items()
        if part is not None
    }
    return type(batch)(**parts)


def train(network: VlaModel, inputs: ModelInput, target: ModelTarget, steps: int) -> float:
    """Overfit; return the time of the fastest step, ms."""
    optimiser = torch.optim.AdamW(network.parameters(), RATE, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps)
    order, fastest = torch.Generator().manual_seed(0), float("inf")
    network.train()
    for _ in range(steps):
        begin = time.perf_counter()
        index = torch.randperm(len(inputs.state), generator=order)[:BATCH]
        loss, _ = network.compute_loss(some(inputs, index), some(target, index))
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        fastest = min(fastest, time.perf_counter() - begin)
    network.eval()
    return 1e3 * fastest


@torch.no_grad()
def figures_of(network: VlaModel, inputs: ModelInput, target: ModelTarget) -> dict[str, float]:
    """Return errors where the object is visible, and the changes of positions with a modality replaced."""
    output, there = network.predict(inputs), target.target_visible.bool()

    def change(other: ModelInput) -> float:
        return float((network.predict(other).continuous - output.continuous).abs().mean())

    return {
        "position_error": float((output.continuous - target.continuous)[there][..., :3].abs().mean()),
        "rotation_error": float((output.continuous - target.continuous)[there][..., 3:].abs().mean()),
        "gripper_error": float(((output.binary > 0) != (target.binary > 0.5))[there].float().mean()),
        "other_pictures_change": change(
            replace(inputs, images={n: i.roll(8, dims=0) for n, i in inputs.images.items()})
        ),
        "other_words_change": change(replace(inputs, tokens=inputs.tokens.roll(1, dims=1))),
    }


def picture(inputs: ModelInput, looks: dict[str, torch.Tensor], title: str, path: Path) -> None:
    """Draw the first frame of each episode in a row, and where each network looks in it below."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from PIL import Image

    scenes = [STEPS * episode for episode in range(EPISODES)]
    figure, grid = plt.subplots(len(looks), EPISODES, figsize=(2.2 * EPISODES, 1.75 * len(looks)), dpi=100)
    for row, (name, look) in zip(grid, looks.items(), strict=True):
        for axes, scene in zip(row, scenes, strict=True):
            image = inputs.images[CAMERA][scene].permute(1, 2, 0).numpy()
            axes.imshow(image)
            axes.imshow(
                look[scene].numpy(),
                cmap="inferno",
                alpha=0.55,
                interpolation="nearest",
                extent=(0, image.shape[1], image.shape[0], 0),
            )
            axes.set_xticks([])
            axes.set_yticks([])
        row[0].set_ylabel(name, fontsize=8)
    figure.suptitle(title, fontsize=9)
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)
    Image.open(path).convert("RGB").quantize(96).save(path, optimize=True)  # a third of the size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("names", nargs="*", default=list(MODELS))
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    dataset, inputs, target = frames()
    needed = {
        "cameras": {name: tuple(image.shape[-2:]) for name, image in inputs.images.items()},
        "vocabulary": dataset.processor.tokenizer.size,
        "state_width": inputs.state.shape[-1],
        "horizon": target.continuous.shape[2],
    }
    colours = torch.tensor([2 + dataset.processor.tokenizer.words.index(colour) for colour in COLOURS])
    results, looks = {}, {}
    for name in tqdm(args.names, unit="network"):
        torch.manual_seed(0)
        network: VlaModel = build_model(name, sized_config(name, "tiny", needed))
        step = train(network, inputs, target, args.steps)
        results[name] = {"steps": args.steps, "step_ms": step, **figures_of(network, inputs, target)}
        with torch.no_grad():
            seen = network.inspect(inputs)
        if CAMERA in seen.words:  # the color word, in the instruction about the first object
            place = torch.isin(inputs.tokens[:, 0], colours).int().argmax(dim=-1)
            looks[f"{name}\nthe colour's word"] = seen.words[CAMERA][torch.arange(len(place)), 0, place]
        elif CAMERA in seen.attention:
            looks[f"{name}\nthe sentence"] = seen.attention[CAMERA][:, 0]
        tqdm.write(f"{name}: " + ", ".join(f"{key} {value:.3g}" for key, value in results[name].items()))
    if args.picture and looks:
        title = " | ".join(
            " ".join(dataset.processor.tokenizer.words[int(t) - 2] for t in inputs.tokens[STEPS * e, 0] if t)
            for e in range(EPISODES)
        )
        picture(inputs, looks, title, args.picture)
    if args.json:
        print(json.dumps(results))


if __name__ == "__main__":
    main()
