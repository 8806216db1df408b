"""`vla-ros train`: train a policy on demonstrations; with a configuration file, it collects them as well."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from vla_ros.cli.arguments import device as device_option
from vla_ros.cli.arguments import natural, path, positive, positive_int
from vla_ros.cli.failures import require_output
from vla_ros.errors import UsageError

if TYPE_CHECKING:
    from vla_ros.training.configuration import TrainingConfig
    from vla_ros.training.records import PlayRecord

REPORT_FILE = "report.json"
"""Name of the file in the checkpoint's folder that holds the metrics of its training."""

HELP = "train a policy on collected demonstrations"

EXAMPLES = (
    "vla-ros train --data runs/data/pick --out runs/train/pick --steps 2000",
    "vla-ros train --config config/training/pick.yaml",
    "vla-ros train --data runs/data/recorded/lerobot --model unified --size tiny --out runs/train/recorded",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--config",
        type=path,
        help="a whole training as YAML, e.g. config/training/pick.yaml; it goes "
        "on where it stopped; the options below then replace its lines",
    )
    parser.add_argument("--robot", help="robot contract: name or YAML file (default: panda)")
    parser.add_argument("--world", help="pick or tabletop (default: pick)")
    parser.add_argument(
        "--data",
        type=path,
        nargs="+",
        help="folders of episodes of the simulated cell "
        "(default: runs/data/pick); or recorded data sets (LeRobot, RLDS, RLBench, HDF5, bags), or a "
        "table of them (.yaml): docs/data.md",
    )
    parser.add_argument("--model", help="name of the network (default: keypoint)")
    parser.add_argument(
        "--size",
        choices=["tiny", "base", "full"],
        help="of the network: tiny (trains on a CPU), base (its own; the default), full",
    )
    parser.add_argument(
        "--set",
        nargs="+",
        default=[],
        metavar="NAME=VALUE",
        dest="options",
        help="lines of the network's configuration (width=96), or a published backbone by hub "
        "identifier (downloaded) or folder: vision=..., text=..., language=...",
    )
    parser.add_argument("--out", type=path, help="folder of the checkpoint (default: runs/train/pick)")
    parser.add_argument("--steps", type=positive_int, help="updates (default: 4000)")
    parser.add_argument(
        "--batch", type=positive_int, help="recorded steps an update, with several sentences each (default: 48)"
    )
    parser.add_argument("--learning-rate", type=positive, help="largest (default: 1e-3)")
    parser.add_argument(
        "--eval-every",
        type=positive_int,
        metavar="N",
        help="play a few scenes every N updates and at the end (default: none)",
    )
    parser.add_argument("--eval-scenes", type=positive_int, metavar="N", help="how many (default: 5)")
    parser.add_argument(
        "--patience",
        type=natural,
        metavar="N",
        help="end after N measurements on held-out episodes in a row without a better one (default: 0, never)",
    )
    parser.add_argument("--seed", type=natural, help="of weights and batches (default: 0)")
    parser.add_argument("--start-from", type=path, help="begin with the weights of this checkpoint")
    parser.add_argument("--resume", action="store_true", help="continue where --out stopped (with --config: always)")
    parser.add_argument("--device", type=device_option, default="auto", help="auto, cpu, cuda or cuda:<number>")
    parser.add_argument("--threads", type=natural, default=0, help="threads on the CPU (0: one a core)")
    parser.add_argument("--processes", type=positive_int, default=os.cpu_count() or 1, help="how many collect at once")
    parser.add_argument("--json", action="store_true", help="print the figures as one JSON object on the last line")


def run(args: argparse.Namespace) -> int:
    """Collect missing data, train, and write the checkpoint; return 0."""
    import torch

    from vla_ros.cli.recorded_data import open_line
    from vla_ros.policies.local import choose_device
    from vla_ros.training.pipeline import Training
    from vla_ros.training.records import verdict

    begin = time.monotonic()
    if args.threads:
        torch.set_num_threads(args.threads)
    config = configuration(args)
    require_output(config.out)
    device = choose_device(args.device)
    resume = args.resume or args.config is not None
    training = Training(
        config,
        device,
        resume=resume,
        processes=args.processes,
        command=_command(args),
        open_line=open_line,
        play=partial(_play, config, args.processes),
    )
    outcome = training.run()
    if not training.speaks:
        return 0
    seconds = round(time.monotonic() - begin, 1)
    figures = {**outcome, "steps": config.loop.steps, "seconds": seconds, "checkpoint": str(config.out)}
    if measured := figures.get("held_out"):
        for name, error in measured["errors"].items():
            other = "a guess" if "trunk" in figures else "the mean action"
            print(f"held out: {name} {error:.4g}, {other} {measured['baseline'][name]:.4g}")
    for name, (value, low, high) in figures.get("trunk", {}).items():
        print(f"held out: {name} {value:.3g} (95 %: {low:.3g} to {high:.3g})")
    if played := figures.get("played"):
        print(f"played after update {played['update']}: {played['successes']} of {played['scenes']} scenes")
    (config.out / REPORT_FILE).write_text(json.dumps(figures, indent=1), encoding="utf-8")
    print(f"checkpoint in {config.out}, loss {figures['loss']:.4f}, {seconds} s; {verdict(figures)}")
    if args.json:
        print(json.dumps(figures))
    return 0


def _play(config: TrainingConfig, processes: int, folder: Path) -> PlayRecord:
    """Play a configuration's held-out scenes with the policy in a folder."""
    from vla_ros.evaluation.suite import SUITES, SuiteOptions, play_suite
    from vla_ros.training.records import PlayRecord

    trials = SUITES[config.world].make_trials(config.held_out.scenes, config.held_out.seed)
    played = list(play_suite(SuiteOptions(config.robot, str(folder), suite=config.world), trials, processes))
    return PlayRecord(sum(one.result.success for group in played for one in group), len(played))


def configuration(args: argparse.Namespace) -> TrainingConfig:
    """Return the configuration: that of the file, or the default, overridden by the options."""
    from vla_ros.models.build import model_class
    from vla_ros.models.options import SIZE_LINE, read_options
    from vla_ros.paths import share_file
    from vla_ros.training.configuration import TrainingConfig, load_training_config
    from vla_ros.training.loop_options import LoopOptions

    if args.config is not None:
        try:
            config = load_training_config(share_file(args.config))
        except FileNotFoundError as error:
            raise UsageError(f"--config {args.config}: {error}") from error
    else:
        config = TrainingConfig(loop=LoopOptions(steps=4000))
    given = {name: getattr(args, name) for name in ("robot", "world", "model", "out", "batch", "seed", "start_from")}
    config = replace(config, **{name: value for name, value in given.items() if value is not None})
    if args.data is not None:
        config = replace(config, data=replace(config.data, folders=tuple(args.data), episodes=0, mixture=()))
    lines = {**({SIZE_LINE: args.size} if args.size else {}), **read_options(args.options)}
    config = replace(config, model_options={**config.model_options, **lines})
    loop = {"steps": args.steps, "learning_rate": args.learning_rate}
    if config.start_from is None and config.method != "pretraining":
        model_class(config.model)  # reject an unknown name before searching for data
    config = replace(config, loop=replace(config.loop, **{n: v for n, v in loop.items() if v is not None}))
    measured = {"play_every": args.eval_every, "scenes": args.eval_scenes, "patience": args.patience}
    return replace(config, held_out=replace(config.held_out, **{n: v for n, v in measured.items() if v is not None}))


def _command(args: argparse.Namespace) -> str:
    """Return the command that repeats the training, without options that affect only where and how fast it runs."""
    said = {**vars(args), "set": args.options or None}
    options = (
        "config",
        "robot",
        "world",
        "model",
        "size",
        "set",
        "data",
        "steps",
        "batch",
        "learning_rate",
        "seed",
        "start_from",
    )
    words = ["vla-ros train"]
    for name in options:
        if said[name] is not None:
            values = said[name] if isinstance(said[name], list) else [said[name]]
            words.append(f"--{name.replace('_', '-')} {shlex.join(map(str, values))}")
    return " ".join(words)
