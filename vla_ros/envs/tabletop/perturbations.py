"""What an evaluation changes about a scene, one thing at a time, in the manner of LIBERO-plus (Fei et al. 2025).

It is drawn from a generator of its own, so that a seed keeps its objects and its task under every perturbation. What
training scenes vary (`training_variation`) is less of each, and never the same patterns or distractors.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vla_ros.envs.tabletop.patterns import DRAWN

HELD_OUT_PATTERNS = ("table_checker", "table_dark", "table_gradient")
TRAINING_PATTERNS = ("table_squares", "table_fine_checker", "table_slope", "table_dots", "table_crosses", *DRAWN)
"""Materials of the table: those that no training scene has, and those that training scenes may have."""

HELD_OUT_DISTRACTORS = ("distractor_0", "distractor_1", "distractor_2")
TRAINING_DISTRACTORS = ("clutter_0", "clutter_1", "clutter_2")
"""Things that no instruction names, likewise."""


@dataclass(frozen=True)
class Perturbation:
    """One change; the defaults change nothing.

    Attributes:
        light: The lamp moves by up to so much, m, and its brightness and tint change in proportion.
        camera_shift: Cameras move by up to so much a axis, m; the one on the hand by a fifth of it.
        camera_turn: They turn by up to so much a axis, rad.
        table: The table gets one of these patterns.
        table_tint: The pattern's colours are multiplied by 1 - this to 1, each channel by its own factor.
        distractors: These things lie there, that no instruction names.
        start_spread: Each arm joint starts within this of home, rad; None: as in training.
        delay: So much older than usual is an observation when its chunk arrives, s.
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
"""Name to what it changes."""


PLAIN_SHARE = 0.3
"""Share of training scenes that look as those without a perturbation do."""


def training_variation(rng: np.random.Generator) -> Perturbation:
    """Draw what a training scene changes: up to two thirds of what evaluations do, patterns and things of its own."""
    if rng.random() < PLAIN_SHARE:
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
