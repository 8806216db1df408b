"""Configuration of `vla-ros train --config`: everything that determines a policy, including its data, in one file."""

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
from vla_ros.processing.features import MAX_HISTORY
from vla_ros.training.algorithms.adaptation import Adaptation
from vla_ros.training.loop_options import HeldOutOptions, LoopOptions, ParamGroupOptions
from vla_ros.yaml_files import read_yaml

if TYPE_CHECKING:
    from vla_ros.data.augmentation.images import ImageSettings

METHODS = ("bc", "dagger", "preferences", "pretraining")

_Section = TypeVar("_Section")


@dataclass(frozen=True)
class DataSection:
    """Source of the demonstrations.

    Attributes:
        folders: Folders of episodes, the first of which receives missing ones; or recorded datasets, or tables of
            them (`.yaml`).
        episodes: Number of episodes to collect; 0: only existing ones are used.
        seed: First seed of the collected episodes.
        varied_from: First seed of the tabletop scenes with varied light, cameras, table, start pose and clutter.
        views: Number of views of a scene, collected in place of a played episode; see `CollectionOptions`.
        cache: Folder for the images in a form that is read step by step.
        cache_gb: Approximate limit on the decoded images of recorded datasets there, GB: rows then come from a window
            of the episodes, see `data.mixture`. None: all are decoded before training starts.
        variants: Number of variants, each in another light, of each image whose frozen-trunk features are cached.
        mixture: Table of recorded datasets, in place of folders; see docs/data.md.
        history: Number of frames of a recorded dataset per network input, one action period apart.
        image_augmentation: Augmentation of recorded images, in place of the default slight light, color and noise.
        language_augmentation: Augmentation of recorded instructions; None: none.
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
    image_augmentation: ImageSettings | None = None
    language_augmentation: LanguageAugmentation | None = None

    def __post_init__(self) -> None:
        if self.cache_gb is not None and not 0.0 < self.cache_gb < math.inf:
            raise VlaError(f"data.cache_gb is {self.cache_gb}, expected a positive number of GB")
        if not 1 <= self.history <= MAX_HISTORY:
            raise VlaError(f"data.history is {self.history}, expected 1 to {MAX_HISTORY} frames")
        if self.mixture and self.episodes:
            raise VlaError(f"data has a mixture, and {self.episodes} episodes to collect, which would not be in it")


@dataclass(frozen=True)
class ActionHeadSection:
    """Separate training of the action head, after the vision encoder has been trained.

    See `vla_ros.training.algorithms.target_features`; of the networks, only `compositional` supports it.

    Attributes:
        steps: Updates after those of `loop`; 0: none.
        batch: Recorded steps per update, each with all its instructions.
        variants: Number of variants per image, each in another light.
        learning_rate: Peak learning rate.
    """

    steps: int = 0
    batch: int = 256
    variants: int = 2
    learning_rate: float = 1e-3


@dataclass(frozen=True)
class DaggerSection:
    """Options of DAgger; see `vla_ros.training.algorithms.dagger`.

    Attributes:
        rounds: Number of rounds of rollouts.
        episodes: Scenes per round; they vary if some of the demonstrations do.
        seed: First seed of the rollouts.
        decay: In round i, the expert drives with probability decay ** i.
        steps: Updates after each round; modules whose training ends early (`loop.param_groups`) stay frozen.
            0: only the action head is trained further (`action_head`).
    """

    rounds: int = 3
    episodes: int = 100
    seed: int = 3_000_000
    decay: float = 0.5
    steps: int = 500


@dataclass(frozen=True)
class PreferenceSection:
    """Options of learning from preferences; see `vla_ros.training.algorithms.preferences`.

    Attributes:
        rounds: Number of rounds of generating, comparing and learning from clips.
        episodes: Scenes per round.
        seed: First seed of the clips.
        noise: Standard deviation of the exploration noise, in units of the normalized action.
        pairs: Number of compared pairs of clips per round.
        clip: Length of a clip, steps.
        reward_steps: Updates of the reward model per round.
        policy_steps: Updates of the policy per round.
        anchor: Weight of the divergence from the cloned policy.
        learning_rate: Learning rate of the policy.
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
    """Configuration of one training.

    Attributes:
        world: Name in the table of simulated worlds.
        robot: Robot contract: a name or a file.
        model: Name in the table of networks.
        out: Folder of the checkpoint.
        batch: Recorded steps per update.
        seed: Seed of weights and batches.
        method: "bc" (behavior cloning), "dagger" or "preferences"; the last two start from `start_from`, or with
            behavior cloning. "pretraining": trains a trunk (see `vla_ros.models.trunk`) instead of a policy.
        model_options: Sizes of the network, in place of its defaults.
        start_from: Checkpoint to start from.
        data: Source of the demonstrations.
        loop: Options of the loop.
        reinit_modules: Prefixes of the names of `start_from`'s parameters that are reinitialized.
        adaptation: Parameter-efficient fine-tuning.
        action_head: Training of the action head after that of the whole network.
        dagger: Options of method "dagger".
        preferences: Options of method "preferences".
        held_out: Which episodes are excluded from training, and how the network is evaluated on them.
    """

    loop: LoopOptions
    world: str = "pick"
    robot: str = "panda"
    model: str = "keypoint"
    out: Path = Path("runs/train/pick")
    batch: int = 48
    seed: int = 0
    method: str = "bc"
    model_options: Mapping[str, Any] = field(default_factory=dict)
    start_from: Path | None = None
    reinit_modules: tuple[str, ...] = ()
    data: DataSection = field(default_factory=DataSection)
    adaptation: Adaptation = field(default_factory=Adaptation)
    action_head: ActionHeadSection = field(default_factory=ActionHeadSection)
    dagger: DaggerSection = field(default_factory=DaggerSection)
    preferences: PreferenceSection = field(default_factory=PreferenceSection)
    held_out: HeldOutOptions = field(default_factory=HeldOutOptions)

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise VlaError(f"method is '{self.method}', expected one of {METHODS}")
        if self.method == "pretraining" and (self.world != "tabletop" or self.start_from or self.action_head.steps):
            raise VlaError("a trunk is taught by the labels of the world 'tabletop', from nothing, and decides nothing")
        if self.adaptation.method != "none" and self.start_from is None:
            raise VlaError(f"adaptation '{self.adaptation.method}' fine-tunes a policy: say which in start_from")
        if self.reinit_modules and (self.start_from is None or self.adaptation.method != "none"):
            raise VlaError(f"reinit_modules {list(self.reinit_modules)} needs start_from and no adaptation")
        fits = (self.world, self.model, self.adaptation.method) == ("tabletop", "compositional", "none")
        if self.action_head.steps and not fits:
            raise VlaError(
                f"the action head alone is trained only in 'compositional', in the world 'tabletop', without "
                f"adaptation, not in '{self.model}' in '{self.world}'"
            )
        if self.method == "dagger" and self.reinit_modules and not self.dagger.steps:
            raise VlaError(f"reinit_modules {list(self.reinit_modules)} would stay untrained: dagger.steps is 0")
        if self.method == "dagger" and not (self.dagger.steps or self.action_head.steps):
            raise VlaError("a round of DAgger would train nothing: dagger.steps and action_head.steps are 0")


def load_training_config(path: Path) -> TrainingConfig:
    """Read a training configuration.

    Raises:
        VlaError: naming a line that is missing, unknown, or of the wrong type.
    """
    try:
        values = read_yaml(path, "training configuration")
    except (OSError, ContractError) as error:
        raise VlaError(f"{path} cannot be read: {error}") from error
    if not isinstance(values, dict):
        raise VlaError(f"{path} holds {type(values).__name__}, expected lines of 'name: value'")
    if values.get("method") == "cloning":  # its former name
        values["method"] = "bc"
    return _section(TrainingConfig, values, str(path))


_SECTIONS = {
    "data": DataSection,
    "loop": LoopOptions,
    "adaptation": Adaptation,
    "action_head": ActionHeadSection,
    "dagger": DaggerSection,
    "preferences": PreferenceSection,
    "language_augmentation": LanguageAugmentation,
    "held_out": HeldOutOptions,
}


_FORMER: Mapping[type[Any], Mapping[str, str]] = {
    DataSection: {"pictures": "image_augmentation", "words": "language_augmentation"},
    TrainingConfig: {"anew": "reinit_modules", "deciding": "action_head"},
    LoopOptions: {
        "accumulate": "grad_accum_steps",
        "average": "ema_decay",
        "clip": "max_grad_norm",
        "parts": "param_groups",
    },
}
"""Former names of lines, accepted for one release, to the present ones."""


def _section(kind: type[_Section], values: Mapping[str, Any], where: str) -> _Section:
    fields = {f.name: f for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    values = _renamed(values, _FORMER.get(kind, {}), where)
    for name in values:
        if name not in fields:
            raise VlaError(f"{where}: unknown line '{name}'; {expected_names(str(name), sorted(fields))}")
    ready = {name: _value(fields[name], value, f"{where}: {name}") for name, value in values.items()}
    try:
        return kind(**ready)
    except TypeError as error:
        raise VlaError(f"{where}: {error}") from error


def _renamed(values: Mapping[str, Any], former: Mapping[str, str], where: str) -> dict[str, Any]:
    """Return `values` under the present names of their lines."""
    for name in values:
        if name in former and former[name] in values:
            raise VlaError(f"{where}: '{name}' is the former name of '{former[name]}'; remove one of them")
    return {former.get(name, name): value for name, value in values.items()}


def _value(line: dataclasses.Field[Any], value: Any, where: str) -> Any:  # noqa: ANN401 (as YAML has it)
    """Convert `value` to the type annotation of its field."""
    kind = str(line.type)
    if line.name in _SECTIONS:
        if not isinstance(value, dict):
            raise VlaError(f"{where} is {value!r}, expected lines of 'name: value'")
        return _section(_SECTIONS[line.name], value, where)
    if kind == "tuple[Line, ...]":
        return tuple(table_lines(value, where))
    if kind == "ImageSettings | None":
        from vla_ros.data.augmentation.images import ImageSettings  # slow import of kornia

        if not isinstance(value, dict):
            raise VlaError(f"{where} is {value!r}, expected lines of 'name: value'")
        return _section(ImageSettings, value, where)
    if kind == "Mapping[str, ParamGroupOptions]":
        if not isinstance(value, dict) or not all(isinstance(lines, dict) for lines in value.values()):
            raise VlaError(f"{where} is {value!r}, expected lines of 'module: {{steps: ..., weight_decay: ...}}'")
        return {str(part): _section(ParamGroupOptions, lines, f"{where}.{part}") for part, lines in value.items()}
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
