"""Measures how often a tabletop policy parses an instruction correctly: taught, held-out and new wordings.

    python benchmarks/reading.py --policy checkpoints/tabletop

No simulation: the output of the language head is compared with the command behind the instruction. The third list was
written before the first policy was trained, and nothing was selected by it. Its results have been seen since, and one
of its sentences was replaced when a similar one was added to the taught ones.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter

import numpy as np
import torch

from vla_ros.envs.tabletop.scene import sample_command
from vla_ros.evaluation.statistics import wilson_interval
from vla_ros.language.commands import Act, Command
from vla_ros.language.lexicon import PREPOSITIONS
from vla_ros.language.phrasing import Wording, say
from vla_ros.models.checkpoint import load_checkpoint
from vla_ros.paths import share_file
from vla_ros.policies.registry import SHIPPED
from vla_ros.training.datasets.concepts import CONCEPTS, concept_classes

NAMES = {
    "red": "cherry",
    "green": "lime",
    "blue": "sapphire",
    "yellow": "mustard",
    "orange": "pumpkin",
    "purple": "lavender",
    "cube": "crate",
    "ball": "globe",
    "cylinder": "rod",
    "disc": "chip",
    "bowl": "tub",
    "plate": "dish",
    "left": "leftwards",
    "right": "rightwards",
    "forward": "forwards",
    "back": "toward you",
}
FRAMES = {
    "pick": ("hand me the {a}", "retrieve the {a} for me"),
    "place": ("transfer the {a} {into} the {b}", "deposit the {a} {in} the {b}"),
    "push": ("knock the {a} {d}", "scoot the {a} {d}"),
    "stack": ("mount the {a} on the {b}", "stand the {a} on the {b}"),
}


def say_otherwise(command: Command, rng: np.random.Generator, *, names: bool) -> str:
    """Return an instruction that is neither taught nor held out; with `names`, so are the names of the things."""
    inside, into = PREPOSITIONS.get(command.goal[1], ("on", "onto")) if command.goal else ("", "")
    called = {name: other if names else name for name, other in NAMES.items()}
    thing, goal = (" ".join(called[word] for word in pair) if pair else "" for pair in (command.thing, command.goal))
    frame = FRAMES[command.act.value][int(rng.integers(2))]
    way = called[command.direction] if command.direction else ""
    return frame.format(a=thing, b=goal, d=way, **{"in": inside, "into": into})


def main() -> None:
    """Print the table, and the same as JSON on the last line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--policy", default=SHIPPED["tabletop"], help="checkpoint folder (default %(default)s)")
    parser.add_argument("--sentences", type=int, default=400, help="of each task and kind (default %(default)s)")
    args = parser.parse_args()
    network, bundle = load_checkpoint(share_file(args.policy), torch.device("cpu"))
    kinds = {
        "taught": lambda c, rng: say(c, Wording.TAUGHT, rng),
        "held out": lambda c, rng: say(c, Wording.HELD_OUT, rng),
        "other sentences": lambda c, rng: say_otherwise(c, rng, names=False),
        "other sentences and words": lambda c, rng: say_otherwise(c, rng, names=True),
    }
    figures = {}
    for kind, word in kinds.items():
        for act in Act:
            rng = np.random.default_rng([7, list(Act).index(act)])
            commands = [sample_command(rng, act) for _ in range(args.sentences)]
            sentences = [word(command, rng) for command in commands]
            tokens = bundle.processor.tokens(sentences)
            with torch.inference_mode():
                read = network.read(tokens[None])
            told = np.stack([values[0].argmax(dim=-1).numpy() for values in read.values()], axis=1)
            wanted = np.array(
                [
                    [dict(zip(CONCEPTS, concept_classes(command), strict=True))[name] for name in read]
                    for command in commands
                ]
            )
            right = (told == wanted).all(axis=1)
            wrong = Counter(sentences[i] for i in np.flatnonzero(~right))
            low, high = wilson_interval(int(right.sum()), len(right))
            figures[f"{kind}/{act.value}"] = {"right": float(right.mean()), "ci95": [low, high]}
            print(
                f"{kind:<26} {act.value:<6} {right.mean():.3f} ({low:.3f} to {high:.3f})  "
                f"{'; '.join(s for s, _ in wrong.most_common(2))}"
            )
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
