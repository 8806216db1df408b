"""What `vla-ros train --config` reads: everything that a policy is made from, data included, in one YAML file."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from vla_ros.data.augmentation.language import LanguageAugmentation
from vla_ros.data.catalogue import Line, table_lines
from vla_ros.errors import ContractError, VlaError
from vla_ros.naming import expected_names
from vla_ros.processing.features import LONGEST_HISTORY
from vla_ros.training.algorithms.adaptation import Adaptation
from vla_ros.training.loop_options import HeldOutOptions, LoopOptions, PartOptions
from vla_ros.yaml_files import read_yaml

if TYPE_CHECKING:
    from vla_ros.data.augmentation.images import ImageSettings

METHODS = ("cloning", "dagger", "preferences", "pretraining")

_Section = TypeVar("_Section")


@dataclass(frozen=True)
class DataSection:
    """Where demonstrations are, or where they are collected to.

    Attributes:
        folders: Folders of episodes, what the first lacks is collected into it; or recorded data sets, or tables of
            such (`.yaml`).
        episodes: How many are collected; 0: only what is there is used.
        seed: First seed of the collected ones.
        varied_from: Tabletop scenes of this seed and later ones vary in light, cameras, table, start pose and clutter.
        views: Views of a scene that are collected in the place of an episode that is played; see `CollectionOptions`.
        cache: Folder for the pictures in a form that is read step by step.
        cache_gb: What decoded images of recorded data sets may take there, about, GB: rows then come from some of the
            episodes at a time, see `data.mixture`. None: all are decoded before training begins.
        variants: How often each picture is put before a frozen trunk, each time in another light.
        mixture: A table of recorded data sets, in place of folders; see docs/data.md.
        history: Frames of a recorded data set that the policy sees at once, one action period apart.
        pictures: How pictures of recorded data sets are changed, in place of a little light, colour and noise.
        words: How their sentences are changed; None: not at all.
    """

    folders: tuple[Path, ...] = (Path("runs/data/pick"),)
    episodes: int = 0
    seed: int = 1_000_000
    varied_from: int | None = None
    views: int = 0
    cache: Path = Path("runs/cache")
    cache_gb: float | None = None
    variants: int = 1
    mixture: tuple[Line, ...] = ()
    history: int = 1
    pictures: ImageSettings | None = None
    words: LanguageAugmentation | None = None

    def __post_init__(self) -> None:
        if self.cache_gb is not None and not 0.0 < self.cache_gb < math.inf:
            raise VlaError(f"data.cache_gb is {self.cache_gb}, expected a positive number of GB")
        if not 1 <= self.history <= LONGEST_HISTORY:
            raise VlaError(f"data.history is {self.history}, expected 1 to {LONGEST_HISTORY} frames")
        if self.mixture and self.episodes:
            raise VlaError(f"data has a mixture, and {self.episodes} episodes to collect, which would not be in it")


@dataclass(frozen=True)
class DecidingSection:
    """The half of a network that decides, trained on by itself once its eyes know what is where.

    See `vla_ros.training.algorithms.glances`; of the networks, `compositional` can be taught so.

    Attributes:
        steps: Updates after those of `loop`; 0: none.
        batch: Recorded steps an update, with all commands about each.
        variants: How often each picture is looked at, each time in another light.
        learning_rate: Largest rate.
    """

    steps: int = 0
    batch: int = 256
    variants: int = 2
    learning_rate: float = 1e-3


@dataclass(frozen=True)
class DaggerSection:
    """See `vla_ros.training.algorithms.dagger`.

    Attributes:
        rounds: How often the learner visits.
        episodes: Scenes a round; they vary if some of the demonstrations do.
        seed: First seed of the visits.
        decay: The expert drives in round i with chance decay ** i.
        steps: Updates after each round; parts of the network with an end of their own (`loop.parts`) stay as they are.
            0: only what decides learns on (`deciding`).
    """

    rounds: int = 3
    episodes: int = 100
    seed: int = 3_000_000
    decay: float = 0.5
    steps: int = 500


@dataclass(frozen=True)
class PreferenceSection:
    """See `vla_ros.training.algorithms.preferences`.

    Attributes:
        rounds: How often clips are made, compared and learned from.
        episodes: Scenes a round.
        seed: First seed of the clips.
        noise: Standard deviation of the exploration, in units of the normalized action.
        pairs: Pairs of clips that are compared a round.
        clip: Steps of a clip.
        reward_steps: Updates of the reward model a round.
        policy_steps: Updates of the policy a round.
        anchor: Weight of the divergence from the cloned policy.
        learning_rate: Of the policy.
    """

    rounds: int = 2
    episodes: int = 100
    seed: int = 4_000_000
    noise: float = 0.3
    pairs: int = 2000
    clip: int = 12
    reward_steps: int = 500
    policy_steps: int = 200
    anchor: float = 0.1
    learning_rate: float = 1e-4


@dataclass(frozen=True)
class TrainingConfig:
    """A whole training.

    Attributes:
        world: Name in the table of simulated worlds.
        robot: Robot contract: a name or a file.
        model: Name in the table of networks.
        out: Folder of the checkpoint.
        batch: Recorded steps an update.
        seed: Of weights and batches.
        method: "cloning", "dagger" or "preferences"; the last two begin with `start_from`, or clone first.
            "pretraining": a trunk, see `vla_ros.models.trunk`, in the place of a policy.
        model_options: Sizes of the network, in place of its own.
        start_from: A checkpoint to begin with.
        data: Where demonstrations are.
        loop: Options of the loop.
        anew: Parts of the network of `start_from` that begin with new weights, by the beginning of their parameters'
            names; the rest goes on from where it is.
        adaptation: Parameter-efficient fine-tuning.
        deciding: What follows the training of the whole network.
        dagger: For that method.
        preferences: For that method.
        held_out: Which episodes no update learns from, and how the network is measured on them while it trains.
    """

    loop: LoopOptions
    world: str = "pick"
    robot: str = "panda"
    model: str = "keypoint"
    out: Path = Path("runs/train/pick")
    batch: int = 48
    seed: int = 0
    method: str = "cloning"
    model_options: Mapping[str, Any] = field(default_factory=dict)
    start_from: Path | None = None
    anew: tuple[str, ...] = ()
    data: DataSection = field(default_factory=DataSection)
    adaptation: Adaptation = field(default_factory=Adaptation)
    deciding: DecidingSection = field(default_factory=DecidingSection)
    dagger: DaggerSection = field(default_factory=DaggerSection)
    preferences: PreferenceSection = field(default_factory=PreferenceSection)
    held_out: HeldOutOptions = field(default_factory=HeldOutOptions)

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise VlaError(f"method is '{self.method}', expected one of {METHODS}")
        if self.method == "pretraining" and (self.world != "tabletop" or self.start_from or self.deciding.steps):
            raise VlaError("a trunk is taught by the labels of the world 'tabletop', from nothing, and decides nothing")
        if self.adaptation.method != "none" and self.start_from is None:
            raise VlaError(f"adaptation '{self.adaptation.method}' fine-tunes a policy: say which in start_from")
        if self.anew and (self.start_from is None or self.adaptation.method != "none"):
            raise VlaError(f"{list(self.anew)} begins anew: say in start_from what the rest is, and no adaptation")
        fits = (self.world, self.model, self.adaptation.method) == ("tabletop", "compositional", "none")
        if self.deciding.steps and not fits:
            raise VlaError(
                f"deciding alone is taught to 'compositional' in the world 'tabletop', without adaptation, not to "
                f"'{self.model}' in '{self.world}'"
            )
        if self.method == "dagger" and self.anew and not self.dagger.steps:
            raise VlaError(f"{list(self.anew)} would not be taught anew: dagger.steps is 0")
        if self.method == "dagger" and not (self.dagger.steps or self.deciding.steps):
            raise VlaError("a round of DAgger would teach nothing: dagger.steps and deciding.steps are 0")


def load_training_config(path: Path) -> TrainingConfig:
    """Read a file.

    Raises:
        VlaError: naming a line that is missing, unknown, or of the wrong kind.
    """
    try:
        values = read_yaml(path, "training configuration")
    except (OSError, ContractError) as error:
        raise VlaError(f"{path} cannot be read: {error}") from error
    if not isinstance(values, dict):
        raise VlaError(f"{path} holds {type(values).__name__}, expected lines of 'name: value'")
    return _section(TrainingConfig, values, str(path))


_SECTIONS = {
    "data": DataSection,
    "loop": LoopOptions,
    "adaptation": Adaptation,
    "deciding": DecidingSection,
    "dagger": DaggerSection,
    "preferences": PreferenceSection,
    "words": LanguageAugmentation,
    "held_out": HeldOutOptions,
}


def _section(kind: type[_Section], values: Mapping[str, Any], where: str) -> _Section:
    fields = {f.name: f for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for name in values:
        if name not in fields:
            raise VlaError(f"{where}: unknown line '{name}'; {expected_names(str(name), sorted(fields))}")
    ready = {name: _value(fields[name], value, f"{where}: {name}") for name, value in values.items()}
    try:
        return kind(**ready)
    except TypeError as error:
        raise VlaError(f"{where}: {error}") from error


def _value(line: dataclasses.Field[Any], value: Any, where: str) -> Any:  # noqa: ANN401 (as YAML has it)
    """Return `value` as the annotation of its field wants it."""
    kind = str(line.type)
    if line.name in _SECTIONS:
        if not isinstance(value, dict):
            raise VlaError(f"{where} is {value!r}, expected lines of 'name: value'")
        return _section(_SECTIONS[line.name], value, where)
    if kind == "tuple[Line, ...]":
        return tuple(table_lines(value, where))
    if kind == "ImageSettings | None":
        from vla_ros.data.augmentation.images import ImageSettings  # brings kornia, which takes a while

        if not isinstance(value, dict):
            raise VlaError(f"{where} is {value!r}, expected lines of 'name: value'")
        return _section(ImageSettings, value, where)
    if kind == "Mapping[str, PartOptions]":
        if not isinstance(value, dict) or not all(isinstance(lines, dict) for lines in value.values()):
            raise VlaError(f"{where} is {value!r}, expected lines of 'part: {{steps: ..., weight_decay: ...}}'")
        return {str(part): _section(PartOptions, lines, f"{where}.{part}") for part, lines in value.items()}
    if kind == "tuple[Path, ...]":
        return tuple(Path(str(one)) for one in (value if isinstance(value, list) else [value]))
    if kind == "tuple[str, ...]":
        return tuple(str(one) for one in (value if isinstance(value, list) else [value]))
    if kind in ("Path", "Path | None"):
        return None if value is None else Path(str(value))
    if value is None and kind in ("int | None", "float | None"):
        return None
    number = (int, float)
    wanted = {
        "int": (int,),
        "int | None": (int,),
        "float": number,
        "float | None": number,
        "str": (str,),
        "bool": (bool,),
    }.get(kind)
    if wanted is not None and (not isinstance(value, wanted) or (isinstance(value, bool) and kind != "bool")):
        raise VlaError(f"{where} is {value!r} ({type(value).__name__}), expected {kind}")
    return float(value) if kind.startswith("float") else value
