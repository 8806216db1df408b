"""What an evaluation changes about a scene, one thing at a time, in the manner of LIBERO-plus (Fei et al. 2025).

Each goes well beyond what varies in the training data. It is drawn from a generator of its own, so that a seed keeps
its objects and its task under every perturbation.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Perturbation:
    """One change; the defaults change nothing.

    Attributes:
        light: The lamp moves by up to so much, m, and its brightness and tint change in proportion.
        camera_shift: Cameras move by up to so much a axis, m; the one on the hand by a fifth of it.
        camera_turn: They turn by up to so much a axis, rad.
        table: The table gets a pattern that no training scene has.
        distractors: So many things lie there that no instruction names.
        start_spread: Each arm joint starts within this of home, rad; None: as in training.
        delay: So much older than usual is an observation when its chunk arrives, s.
    """

    light: float = 0.0
    camera_shift: float = 0.0
    camera_turn: float = 0.0
    table: bool = False
    distractors: int = 0
    start_spread: float | None = None
    delay: float = 0.0


PERTURBATIONS: dict[str, Perturbation] = {
    "none": Perturbation(),
    "light": Perturbation(light=1.0),
    "camera": Perturbation(camera_shift=0.03, camera_turn=0.03),
    "table": Perturbation(table=True),
    "distractors": Perturbation(distractors=3),
    "start": Perturbation(start_spread=0.25),
    "delay": Perturbation(delay=0.1),
}
"""Name to what it changes."""
