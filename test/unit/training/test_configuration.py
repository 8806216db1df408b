"""A configuration file says everything, and a wrong line is named."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from vla_ros.cli.commands.train import add_arguments, configuration
from vla_ros.errors import VlaError
from vla_ros.paths import share_file
from vla_ros.training.configuration import TrainingConfig, load_training_config

FILES = sorted(share_file("config/training").glob("*.yaml"))


def _load(folder: Path, text: str) -> TrainingConfig:
    path = folder / "training.yaml"
    path.write_text(text)
    return load_training_config(path)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_files_that_ship_are_valid(path: Path) -> None:
    config = load_training_config(path)
    assert config.loop.steps > 0 and config.batch > 0
    compares = config.method == "preferences" and config.start_from is not None  # needs no demonstrations
    assert compares or config.data.episodes > 0


def test_lines_reach_their_place(tmp_path: Path) -> None:
    config = _load(
        tmp_path,
        "world: tabletop\nbatch: 7\nout: a/b\ndata: {folders: [c, d], episodes: 3}\n"
        "loop: {steps: 5, learning_rate: 1, precision: bf16}\nstart_from: e\nadaptation: {method: lora, rank: 2}\n",
    )
    assert (config.world, config.batch, config.out, config.loop.learning_rate) == ("tabletop", 7, Path("a/b"), 1.0)
    assert config.data.folders == (Path("c"), Path("d")) and config.adaptation.rank == 2


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("loop: {steps: 5}\nbacth: 3\n", "unknown line 'bacth'; did you mean 'batch'"),
        ("batch: 3\n", "loop"),
        ("loop: {steps: five}\n", "steps is 'five' \\(str\\), expected int"),
        ("loop: {steps: true}\n", "steps is True"),
        ("loop: 5\n", "loop is 5, expected lines"),
        ("loop: {steps: 5, precision: fp8}\n", "precision is 'fp8'"),
        ("loop: {steps: 5}\nmethod: magic\n", "method is 'magic'"),
        ("loop: {steps: 5}\nadaptation: {method: lora}\n", "say which in start_from"),
        ("loop: {steps: 5}\naction_head: {steps: 5}\n", "not in 'keypoint'"),
        ("loop: {steps: 5}\nmodel: compositional\naction_head: {steps: 5}\n", "in 'pick'"),
        (
            "loop: {steps: 5}\nworld: tabletop\nmodel: compositional\nmethod: dagger\nstart_from: e\n"
            "reinit_modules: [reader]\naction_head: {steps: 5}\ndagger: {steps: 0}\n",
            "would stay untrained",
        ),
        ("loop: {steps: 5}\naction_head: {stepps: 5}\n", "unknown line 'stepps'"),
        ("loop: {steps: 5}\nmethod: dagger\ndagger: {steps: 0}\n", "would train nothing"),
        ("loop: {steps: 5, average: 0.9, ema_decay: 0.9}\n", "'average' is the former name of 'ema_decay'"),
        ("- 1\n", "holds list"),
        ("loop: {steps: 5\n", "cannot be read"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(VlaError, match=says):
        _load(tmp_path, text)


def test_former_names_of_lines_are_read(tmp_path: Path) -> None:
    former = _load(
        tmp_path,
        "method: cloning\nworld: tabletop\nmodel: compositional\nstart_from: e\nanew: [reader]\ndeciding: {steps: 2}\n"
        "data: {words: {slip: 0.0}, pictures: {crop: 0.9}}\n"
        "loop: {steps: 5, accumulate: 2, average: 0.9, clip: 0.5, parts: {reader: {steps: 3}}}\n",
    )
    present = _load(
        tmp_path,
        "method: bc\nworld: tabletop\nmodel: compositional\nstart_from: e\nreinit_modules: [reader]\n"
        "action_head: {steps: 2}\ndata: {language_augmentation: {slip: 0.0}, image_augmentation: {crop: 0.9}}\n"
        "loop: {steps: 5, grad_accum_steps: 2, ema_decay: 0.9, max_grad_norm: 0.5,"
        " param_groups: {reader: {steps: 3}}}\n",
    )
    assert former == present
    assert (present.loop.grad_accum_steps, present.loop.ema_decay, present.loop.max_grad_norm) == (2, 0.9, 0.5)
    assert present.loop.param_groups["reader"].steps == 3 and present.action_head.steps == 2


def test_options_replace_lines_and_without_a_file_there_are_defaults() -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    plain = configuration(parser.parse_args(["--model", "flow", "--data", "x", "--steps", "9"]))
    assert (plain.model, plain.loop.steps, plain.data.folders, plain.batch) == ("flow", 9, (Path("x"),), 48)
    assert plain.data.episodes == 0  # nothing is collected unasked
    filed = configuration(parser.parse_args(["--config", "config/training/pick.yaml", "--steps", "3", "--out", "y"]))
    assert (filed.loop.steps, filed.out, filed.data.episodes, filed.model) == (3, Path("y"), 1500, "keypoint")
    sized = configuration(
        parser.parse_args(
            [
                "--config",
                "config/training/tabletop.yaml",
                "--data",
                "mine",
                "--size",
                "tiny",
                "--set",
                "hidden=64",
                "--world",
                "pick",
            ]
        )
    )
    assert sized.model_options == {"size": "tiny", "hidden": 64} and sized.world == "pick"
    assert sized.data.folders == (Path("mine"),) and sized.data.episodes == 0  # nothing is collected into those
