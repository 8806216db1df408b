"""Runs a training configuration: collection, cloning, and then DAgger or preferences, depending on the method."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from tqdm import tqdm

from vla_ros.data.episodes.demonstrations import Episode, read_episodes
from vla_ros.envs.collection import CollectionJob, collect_in_parallel
from vla_ros.envs.collector import CollectionOptions
from vla_ros.envs.registry import find_world
from vla_ros.envs.tabletop.objects import COLOURS, SHAPES
from vla_ros.envs.tabletop.scene import HELD_OUT_PAIRS
from vla_ros.envs.tabletop.tasks import PICK_TEMPLATES, pick_instruction
from vla_ros.errors import VlaError
from vla_ros.language.commands import Command
from vla_ros.language.phrasing import held_out_words, say, taught_words
from vla_ros.models.checkpoint import load_checkpoint, save_checkpoint
from vla_ros.policies.driver import PolicyDriver
from vla_ros.robot.contract import RobotContract, load_contract
from vla_ros.training.algorithms.action_head import ActionHeadOptions, train_action_head
from vla_ros.training.algorithms.behavioral_cloning import BcOptions, Demonstrations, train_policy
from vla_ros.training.algorithms.dagger import DaggerRound, run_dagger, schedule
from vla_ros.training.algorithms.experience import ExperienceBatches
from vla_ros.training.algorithms.preferences import PolicyGradient, advantages, cut_clips, step_features
from vla_ros.training.algorithms.rewards import PairBatches, RewardModel, preference_loss
from vla_ros.training.configuration import TrainingConfig
from vla_ros.training.curve import CURVE_FILE, Curve, plot_curve
from vla_ros.training.datasets.pick import PickDataset
from vla_ros.training.datasets.recorded import RecordedDataset
from vla_ros.training.datasets.recorded_data import (
    OpenLine,
    commanded_as,
    open_recordings,
    recorded_dataset,
    recorded_lines,
)
from vla_ros.training.datasets.tabletop import TabletopDataset, trainable_pairs
from vla_ros.training.datasets.word_vectors import common_words
from vla_ros.training.held_out import Play
from vla_ros.training.loop import TrainingLoop
from vla_ros.training.loop_options import LoopOptions
from vla_ros.training.pretraining import train_trunk, trunk_dataset, trunk_figures
from vla_ros.training.records import TrainingRecord, best_record


class Training:
    """Training of one configuration on one machine."""

    def __init__(
        self,
        config: TrainingConfig,
        device: torch.device,
        *,
        resume: bool,
        processes: int,
        command: str,
        open_line: OpenLine,
        play: Play | None = None,
    ) -> None:
        """Store the settings; load the robot contract.

        Args:
            config: Training configuration.
            device: Device to compute on.
            resume: Whether to continue from the state in the checkpoint's folder.
            processes: Number of processes that collect in parallel.
            command: Command line that reproduces the training; stored in the checkpoint.
            open_line: Returns the reader of a recorded dataset.
            play: Runs a few scenes with the policy in a folder, if the configuration asks for it.
        """
        self.config, self.device, self.resume = config, device, resume
        self.processes, self.command, self._play = processes, command, play
        self.contract: RobotContract = load_contract(config.robot)
        self._recorded, self._open_line = recorded_lines(config), open_line
        self._state = PartialState(cpu=device.type == "cpu")

    @property
    def speaks(self) -> bool:
        """Whether this process is the main one, which prints."""
        return bool(self._state.is_main_process)

    def run(self) -> dict[str, Any]:
        """Run the whole training and return its metrics."""
        self._collect_demonstrations()
        if self.config.method == "dagger":
            return self._dagger()
        if self.config.method == "preferences":
            return self._preferences()
        if self.config.method == "pretraining":
            return self._pretrain()
        return self._clone(self.config.data.folders, self.config.out, self.config.loop, self.config.start_from)

    # Data.

    def _collect_demonstrations(self) -> None:
        data = self.config.data
        if data.episodes:
            seeds = range(data.seed, data.seed + data.episodes)
            options = replace(find_world(self.config.world).options, varied_from=data.varied_from, views=data.views)
            self._collect(data.folders[0], seeds, options)

    def _collect(
        self, folder: Path, seeds: range, options: CollectionOptions, driver: PolicyDriver | None = None
    ) -> None:
        """Collect the missing episodes of a folder; the main process does it, and the others wait."""
        source = {} if driver is None else {"noise": driver.noise, "noise_seed": driver.seed}
        keeps = driver is not None or options.views > 0
        job = CollectionJob(self.config.robot, self.config.world, options, folder, keeps, driver, source)
        with self._state.main_process_first():
            reports = collect_in_parallel(job, seeds, self.processes)
            for _ in tqdm(reports, total=len(seeds), unit="episode", desc=f"collect {folder.name}"):
                pass

    def _dataset(self, folders: Sequence[Path]) -> Demonstrations:
        cameras = [camera.name for camera in self.contract.cameras]
        if self._recorded:
            with self._state.main_process_first():
                recordings = open_recordings(self._recorded, self.contract, self._open_line)
                before, self.contract = self.contract, commanded_as(recordings, self.contract)
                if self.speaks and self.contract is not before:
                    groups = [group.name for group in self.contract.action.groups]
                    print(f"actions are {groups}, as in the data; by its contract '{before.name}' is moved by its tool")
                return recorded_dataset(recordings, self.contract, self.config.data)
        if self.config.world == "pick":
            kinds = [f"{colour} {shape}" for colour in COLOURS for shape in SHAPES]
            return PickDataset(folders, cameras, PICK_TEMPLATES, kinds)
        words = sorted({*common_words(), *taught_words(), *held_out_words()})
        with self._state.main_process_first():
            return TabletopDataset(folders, cameras, words, trainable_pairs(HELD_OUT_PAIRS), self.config.data.cache)

    # Methods.

    def _clone(
        self,
        folders: Sequence[Path],
        out: Path,
        loop: LoopOptions | None,
        start_from: Path | None,
        *,
        first: bool = True,
    ) -> dict[str, Any]:
        """Clone, then train the action head separately if configured.

        Modules are reinitialized only in the first cloning. If `loop` is None, only the action head is trained,
        starting from `start_from`.
        """
        config = self.config
        dataset = self._dataset(folders)
        if self.speaks:
            print(f"{dataset.count} steps of {dataset.episodes} episodes")
            for line in dataset.left_out() if isinstance(dataset, RecordedDataset) else ():
                print(line)
        notes = {
            "command": self.command,
            "method": config.method,
            "episodes": dataset.episodes,
            "steps_recorded": dataset.count,
            "seed": config.seed,
        }
        if isinstance(dataset, RecordedDataset):
            notes["data"] = dataset.table()
        figures: dict[str, Any] = {"episodes": dataset.episodes, "recorded_steps": dataset.count}
        if loop is not None:
            place = out / "whole" if config.action_head.steps else out
            options = BcOptions(
                loop,
                config.batch,
                config.seed,
                config.model_options,
                config.adaptation,
                config.reinit_modules if first else (),
                start_from,
                self.resume,
                {**notes, "updates": loop.steps},
                config.held_out,
                self._play,
                cache=config.data.cache,
                variants=config.data.variants,
            )
            start_from = place

            def train(curve: Curve) -> float:
                measured = replace(options, history=curve.records)
                return train_policy(dataset, self.contract, config.model, place, measured, self.device, curve.add)

            figures |= self._drawn(place, train)
        if config.action_head.steps:
            figures |= self._decide(dataset, start_from, out, notes)
        return figures

    def _pretrain(self) -> dict[str, Any]:
        config = self.config
        cameras = [camera.name for camera in self.contract.cameras]
        with self._state.main_process_first():
            dataset = trunk_dataset(config.data.folders, cameras, config.data.cache)
        if self.speaks:
            print(f"{dataset.count} views of {dataset.episodes} scenes")
        notes = {"command": self.command, "scenes": dataset.episodes, "views": dataset.count, "seed": config.seed}
        options = BcOptions(
            config.loop,
            config.batch,
            config.seed,
            config.model_options,
            resume=self.resume,
            notes=notes,
            held_out=config.held_out,
        )

        def train(curve: Curve) -> float:
            return train_trunk(dataset, config.out, replace(options, history=curve.records), self.device, curve.add)

        figures = self._drawn(config.out, train)
        if self.speaks:
            figures["trunk"] = trunk_figures(config.out, dataset, config.held_out.fraction, self.device)
        return {"episodes": dataset.episodes, "recorded_steps": dataset.count, **figures}

    def _decide(
        self, dataset: Demonstrations, policy: Path | None, out: Path, notes: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Train only the action head."""
        section = self.config.action_head
        if not isinstance(dataset, TabletopDataset) or policy is None:
            raise VlaError(
                f"the action head alone is trained only in the world 'tabletop', not in '{self.config.world}'"
            )
        loop = replace(
            self.config.loop, steps=section.steps, learning_rate=section.learning_rate, precision="no", param_groups={}
        )
        options = ActionHeadOptions(
            loop,
            section.batch,
            section.variants,
            self.config.seed,
            self.resume,
            {**notes, "deciding_updates": section.steps},
            self.config.held_out,
            self._play,
        )

        def train(curve: Curve) -> float:
            measured = replace(options, history=curve.records)
            return train_action_head(dataset, policy, out, measured, self.device, curve.add)

        return self._drawn(out, train)

    def _drawn(self, out: Path, train: Callable[[Curve], float]) -> dict[str, Any]:
        """Train, and plot the curve next to the checkpoint."""
        curve = Curve(out / CURVE_FILE, fresh=not self.resume)
        loss, records = train(curve), curve.records
        if records and self.speaks:
            plot_curve(records, out / "curve.png")
        best, played = best_record(records), [r for r in records if r.played is not None]
        measured: dict[str, Any] = {"held_out": None, "no_better_than_mean_action": None, "played": None}
        if best is not None and best.held_out is not None:
            measured["held_out"] = {"update": best.step, **asdict(best.held_out)}
            measured["no_better_than_mean_action"] = best.held_out.no_better
        if played and played[-1].played is not None:
            measured["played"] = {"update": played[-1].step, **asdict(played[-1].played)}
        return {
            "loss": loss if np.isfinite(loss) else (records[-1].loss if records else loss),
            "parts": records[-1].parts if records else {},
            "updates": records[-1].step if records else 0,
            **measured,
        }

    def _dagger(self) -> dict[str, Any]:
        config, section = self.config, self.config.dagger
        figures: dict[str, Any] = {}

        def learn(data: Sequence[Path], number: int) -> Path:
            place = config.out / f"round_{number}"
            if number == 0 and config.start_from is not None:
                return config.start_from
            first = number == (0 if config.start_from is None else 1)
            start = config.start_from if first else config.out / f"round_{number - 1}"
            figures.update(self._clone(data, place, self._round_loop(number, first), start, first=first))
            return place

        def visit(policy: Path, one: DaggerRound) -> Path:
            folder = config.out / f"visits_{one.number}"
            begin = section.seed + (one.number - 1) * section.episodes
            varied_from = None if config.data.varied_from is None else 0
            options = replace(
                find_world(config.world).options, learner_fraction=1.0 - one.beta, varied_from=varied_from
            )
            self._collect(folder, range(begin, begin + section.episodes), options, PolicyDriver(str(policy)))
            return folder

        demonstrations = config.data.folders
        last = run_dagger(
            demonstrations[0],
            schedule(section.rounds, section.decay),
            lambda data, number: learn([*demonstrations[1:], *data], number),
            visit,
        )
        self._publish(last)
        return figures

    def _round_loop(self, number: int, first: bool) -> LoopOptions | None:
        """Return the loop options of a DAgger round; None if only the action head is trained."""
        loop, steps = self.config.loop, self.config.dagger.steps
        if number > 0:
            if not steps:
                return None
            loop = replace(loop, steps=steps)
        return loop if first else finished_parts(loop)

    def _preferences(self) -> dict[str, Any]:
        config, section = self.config, self.config.preferences
        policy = config.start_from or config.out / "cloned"
        if config.start_from is None:
            self._clone(config.data.folders, policy, config.loop, None)
        cloned, figures = policy, {}
        for number in range(1, section.rounds + 1):
            folder = config.out / f"clips_{number}"
            begin = section.seed + (number - 1) * section.episodes
            options = replace(
                find_world(config.world).options, learner_fraction=1.0, disturbance=0.0, switch=0.0, record_learner=True
            )
            driver = PolicyDriver(str(policy), noise=section.noise, seed=number)
            self._collect(folder, range(begin, begin + section.episodes), options, driver)
            figures = self._improve(list(read_episodes(folder)), policy, cloned, config.out / f"round_{number}", number)
            policy = config.out / f"round_{number}"
        self._publish(policy)
        return figures

    def _improve(self, episodes: list[Episode], played: Path, cloned: Path, out: Path, number: int) -> dict[str, Any]:
        """Run one round: compare clips, learn the reward, and optimize the policy for it."""
        section, episodes = self.config.preferences, [e for e in episodes if len(e) >= self.config.preferences.clip]
        features = [step_features(e, e.arrays["asked"]) for e in episodes]
        clips, scores = cut_clips(features, [e.arrays["progress"] for e in episodes], section.clip)
        rewards, agreed = self._learn_reward(clips, scores, number)
        with torch.no_grad():
            earned = [rewards(torch.from_numpy(one).to(self.device)).cpu().numpy() for one in features]
        network, bundle = load_checkpoint(played, self.device)
        anchor, _ = load_checkpoint(cloned, self.device)
        sentences = [[self._sentence(e, int(asked)) for asked in e.arrays["asked"]] for e in episodes]
        source = ExperienceBatches(episodes, sentences, advantages(earned), bundle, self.config.batch, number)
        objective = PolicyGradient(copy.deepcopy(network), anchor, section.noise, section.anchor)
        options = LoopOptions(
            steps=section.policy_steps,
            learning_rate=section.learning_rate,
            warm_up=10,
            schedule="constant",
            weight_decay=0.0,
            ema_decay=0.9,
            seed=self.config.seed,
            report_every=10,
        )
        loop = TrainingLoop(network.trainable(), options, self.device, objective)
        records: list[TrainingRecord] = []
        loss = loop.run(source, None, records.append)
        notes = {**bundle.training, "command": self.command, "method": "preferences", "round": number}
        if loop.is_main:
            save_checkpoint(out, loop.averaged, replace(bundle, training=notes))
        return {"loss": loss, "reward_agrees": agreed, "clips": len(clips), "parts": records[-1].parts}

    def _learn_reward(self, clips: np.ndarray, scores: np.ndarray, number: int) -> tuple[RewardModel, float]:
        """Return the reward model, and the fraction of unseen comparisons in which it agrees with the judge."""
        section = self.config.preferences
        order = np.random.default_rng(number).permutation(len(clips))
        kept, unseen = order[len(clips) // 5 :], order[: len(clips) // 5]
        torch.manual_seed(number)
        loop = TrainingLoop(
            RewardModel(clips.shape[-1]),  # type: ignore[arg-type]
            LoopOptions(
                steps=section.reward_steps,
                learning_rate=2e-3,
                warm_up=20,
                weight_decay=1e-3,
                ema_decay=0.99,
                seed=number,
            ),
            self.device,
            preference_loss,
        )
        loop.run(PairBatches(clips[kept], scores[kept], section.pairs, 64, number))
        test = PairBatches(clips[unseen], scores[unseen], 500, 500, number).batch(0, 0, 1)
        with torch.no_grad():
            _, parts = preference_loss(loop.averaged.cpu(), test)
        return loop.averaged.to(self.device), parts["agreed"]  # type: ignore[return-value]

    def _sentence(self, episode: Episode, asked: int) -> str:
        name = str(episode.arrays["names"][asked])
        return say(Command.from_key(name)) if "|" in name else pick_instruction(name)

    def _publish(self, policy: Path) -> None:
        """Copy the last policy to the configuration's output folder."""
        if self.speaks:
            network, bundle = load_checkpoint(policy, torch.device("cpu"))
            save_checkpoint(self.config.out, network, bundle)


def finished_parts(loop: LoopOptions) -> LoopOptions:
    """Return `loop` for a network whose separately trained modules are finished: they stay frozen."""
    return replace(loop, param_groups={name: replace(one, steps=0) for name, one in loop.param_groups.items()})
