"""Scene perturbations for evaluation, one factor at a time, in the manner of LIBERO-plus (Fei et al. 2025).

They use a separate random generator, so that a seed keeps its objects and its task under every perturbation. Training
scenes (`training_variation`) vary each factor less, and never use the same patterns or distractors.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vla_ros.envs.tabletop.patterns import DRAWN

HELD_OUT_PATTERNS = ("table_checker", "table_dark", "table_gradient")
TRAINING_PATTERNS = ("table_squares", "table_fine_checker", "table_slope", "table_dots", "table_crosses", *DRAWN)
"""Table materials: those that no training scene uses, and those that training scenes may use."""

HELD_OUT_DISTRACTORS = ("distractor_0", "distractor_1", "distractor_2")
TRAINING_DISTRACTORS = ("clutter_0", "clutter_1", "clutter_2")
"""Objects that no instruction names: those that no training scene uses, and those that training scenes may use."""


@dataclass(frozen=True)
class Perturbation:
    """One perturbation; the defaults change nothing.

    Attributes:
        light: Largest shift of the lamp, m; its brightness and tint change in proportion.
        camera_shift: Largest shift of cameras per axis, m; a fifth of it for the one on the hand.
        camera_turn: Largest rotation of cameras per axis, rad.
        table: Candidate patterns of the table.
        table_tint: The pattern's colors are multiplied by 1 - this to 1, each channel by its own factor.
        distractors: Additional objects that no instruction names.
        start_spread: Largest offset of each arm joint from home at the start, rad; None: as in training.
        delay: Additional age of an observation when its chunk arrives, s.
    """

    light: float = 0.0
    camera_shift: float = 0.0
    camera_turn: float = 0.0
    table: tuple[str, ...] = ()
    table_tint: float = 0.0
    distractors: tuple[str, ...] = ()
    start_spread: float | None = None
    delay: float = 0.0


PERTURBATIONS: dict[str, Perturbation] = {
    "none": Perturbation(),
    "light": Perturbation(light=1.0),
    "camera": Perturbation(camera_shift=0.03, camera_turn=0.03),
    "table": Perturbation(table=HELD_OUT_PATTERNS),
    "distractors": Perturbation(distractors=HELD_OUT_DISTRACTORS),
    "start": Perturbation(start_spread=0.25),
    "delay": Perturbation(delay=0.1),
}
"""Name to perturbation."""


PLAIN_FRACTION = 0.3
"""Fraction of training scenes with the unperturbed appearance."""


def training_variation(rng: np.random.Generator) -> Perturbation:
    """Draw a training scene's variation: up to two thirds of the evaluation's, with its own patterns and objects."""
    if rng.random() < PLAIN_FRACTION:
        return Perturbation()
    things: list[int] = []
    if rng.random() < 0.5:
        things = rng.permutation(len(TRAINING_DISTRACTORS))[: int(rng.integers(1, 3))].tolist()
    return Perturbation(
        light=float(rng.uniform(0.0, 0.67)),
        camera_shift=float(rng.uniform(0.0, 0.02)),
        camera_turn=float(rng.uniform(0.0, 0.02)),
        table=TRAINING_PATTERNS if rng.random() < 0.8 else (),
        table_tint=0.7,
        distractors=tuple(TRAINING_DISTRACTORS[i] for i in things),
        start_spread=float(rng.uniform(0.1, 0.17)),
    )
