"""`vla-ros train`: a policy from recorded demonstrations, by behavioural cloning."""

from __future__ import annotations

import argparse
import json
import shlex
import time
from pathlib import Path

HELP = "train a policy on collected demonstrations"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--robot", default="panda", help="robot contract (name or YAML file)")
    parser.add_argument("--data", type=Path, nargs="+", default=[Path("runs/data/pick")], help="folders of episodes")
    parser.add_argument("--model", default="keypoint", help="name of the network")
    parser.add_argument("--size", choices=["tiny", "base", "full"],
                        help="of the network: tiny (trains on a CPU), base (its own; the default), full")  # fmt: skip
    parser.add_argument("--set", nargs="+", default=[], metavar="NAME=VALUE", dest="options",
                        help="lines of the network's configuration (width=96), or a published backbone by hub "
                             "identifier (downloaded) or folder: vision=..., text=..., language=...")  # fmt: skip
    parser.add_argument("--out", type=Path, default=Path("runs/train/pick"), help="folder of the checkpoint")
    parser.add_argument("--steps", type=int, default=4000, help="updates")
    parser.add_argument("--batch", type=int, default=48, help="recorded steps an update (four sentences each)")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, ...")
    parser.add_argument("--threads", type=int, default=0, help="threads on the CPU (0: one a core)")
    parser.add_argument("--resume", action="store_true", help="continue where --out stopped")
    parser.add_argument("--start-from", type=Path, help="begin with the weights of this checkpoint")
    parser.add_argument("--json", action="store_true", help="print the figures as one JSON object on the last line")


def run(args: argparse.Namespace) -> int:
    """Train and write the checkpoint; 0 when it is there."""
    import torch

    from vla_ros.models.options import read_options
    from vla_ros.policies.local import choose_device
    from vla_ros.robot.contract import load_contract
    from vla_ros.sim.scene import COLOURS, SHAPES
    from vla_ros.sim.tasks import PICK_TEMPLATES
    from vla_ros.training.behavioural_cloning import curve_picture, train_policy
    from vla_ros.training.dataset import PickDataset
    from vla_ros.training.loop import LoopOptions, TrainingRecord

    begin = time.monotonic()
    if args.threads:
        torch.set_num_threads(args.threads)
    model_options = {**({"size": args.size} if args.size else {}), **read_options(args.options)}
    contract = load_contract(args.robot)
    kinds = [f"{colour} {shape}" for colour in COLOURS for shape in SHAPES]
    dataset = PickDataset(args.data, [c.name for c in contract.cameras], PICK_TEMPLATES, kinds)
    print(f"{dataset.count} steps of {dataset.episodes} episodes")
    records: list[TrainingRecord] = []
    command = (
        f"vla-ros train --model {args.model}{_model_arguments(args)} --data {' '.join(map(str, args.data))} "
        f"--steps {args.steps} --batch {args.batch} --learning-rate {args.learning_rate} --seed {args.seed}"
        + (f" --start-from {args.start_from}" if args.start_from else "")
    )
    loss = train_policy(
        dataset, contract, args.model, args.out,
        LoopOptions(steps=args.steps, learning_rate=args.learning_rate),
        batch=args.batch, seed=args.seed, device=choose_device(args.device), resume=args.resume,
        start_from=args.start_from, report=records.append, model_options=model_options,
        notes={"command": command, "episodes": dataset.episodes, "steps_recorded": dataset.count, "seed": args.seed},
    )  # fmt: skip
    if records:
        curve_picture(records, args.out / "curve.png")
    figures = {
        "loss": loss, "steps": args.steps, "episodes": dataset.episodes, "recorded_steps": dataset.count,
        "seconds": round(time.monotonic() - begin, 1), "checkpoint": str(args.out),
        "parts": records[-1].parts if records else {},
    }  # fmt: skip
    print(f"checkpoint in {args.out}, loss {loss:.4f}, {figures['seconds']} s")
    if args.json:
        print(json.dumps(figures))
    return 0


def _model_arguments(args: argparse.Namespace) -> str:
    """Return the options that choose the network's size, as they were given."""
    size = f" --size {args.size}" if args.size else ""
    return size + (f" --set {shlex.join(args.options)}" if args.options else "")
