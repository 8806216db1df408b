"""Tabletop environment: manipulation tasks on the table of a MuJoCo workcell, deterministic per seed."""

from __future__ import annotations

from vla_ros.envs.mujoco.workcell import Workcell  # isort: skip  (sets the OpenGL back end before mujoco is imported)

from collections.abc import Mapping, Sequence
from dataclasses import replace

import mujoco
import numpy as np

from vla_ros.envs.env import TaskStatus
from vla_ros.envs.mujoco.model import ARM_BITS, OBJECT_BITS, build_model, slot_body, slot_geom
from vla_ros.envs.tabletop.config import TabletopConfig
from vla_ros.envs.tabletop.model import DISTRACTORS, FLOOR_HALF_HEIGHT, furnish, receptacle_body, receptacle_geoms
from vla_ros.envs.tabletop.objects import SceneObject
from vla_ros.envs.tabletop.perturbations import Perturbation
from vla_ros.envs.tabletop.scene import (
    COLOURS,
    DIRECTION_VECTORS,
    MAX_RECEPTACLES,
    RECEPTACLES,
    SHAPES,
    TabletopScene,
    place_apart,
)
from vla_ros.envs.tabletop.success import STACK_ASIDE, Rest, judge_push, judge_rest
from vla_ros.envs.tabletop.tasks import LIFT_HEIGHT, judge_pick
from vla_ros.errors import InstructionError, SimulationError
from vla_ros.language.commands import Act, Command
from vla_ros.robot.contract import RobotContract
from vla_ros.types import FloatArray, Instruction, Observation

PROGRESS_REACH = 0.4
"""Distance from its target beyond which an arm has made no progress, m."""

ARM_CAMERA_FRACTION = 0.2
"""Fraction of a perturbation's camera shift that is applied to cameras on the arm."""

HIDDEN = -0.5
"""Height at which objects not in the scene are kept, behind the robot, m."""


class TabletopEnv(Workcell):
    """An `Env` whose tasks are those of `config`. `perturbation` takes effect at the next reset."""

    def __init__(
        self,
        contract: RobotContract,
        config: TabletopConfig,
        *,
        camera_sizes: Mapping[str, tuple[int, int]] | None = None,
    ) -> None:
        """Build the environment; `camera_sizes` overrides the contract's (height, width) px by camera.

        Raises:
            SimulationError: when the workcell of this robot cannot be built.
        """
        self.config, self.perturbation = config, Perturbation()
        super().__init__(contract, camera_sizes=camera_sizes)
        model = self.model
        self._camera_pos, self._camera_quat = model.cam_pos.copy(), model.cam_quat.copy()
        self._light_pos, self._light_diffuse = model.light_pos.copy(), model.light_diffuse.copy()
        self._table_rgba = model.geom("table").rgba.copy()
        self.reset(0)

    def _build(self) -> mujoco.MjModel:
        config = self.config
        extra = furnish if config.furnished else None
        return build_model(self.contract, config.shapes, config.max_objects, extra, self.layout)

    def reset(self, seed: int, instruction: str | None = None) -> str:
        """Create the scene of `seed` and return its instruction.

        Args:
            seed: Determines objects, places, appearance, start pose and, without `instruction`, the task.
            instruction: Instruction to prepare for; the objects that it names are put on the table.

        Raises:
            SimulationError: when the instruction names no object of the environment, or the perturbation requires a
                furnished environment; the scene is then unchanged.
            InstructionError: when the instruction requests no task; the scene is then unchanged.
        """
        if (self.perturbation.table or self.perturbation.distractors) and not self.config.furnished:
            raise SimulationError("this environment has neither patterns of the table nor distractors to perturb with")
        rng = np.random.default_rng(seed)
        scene, sentence = self.config.draw(rng, instruction, self.layout.area(self.config.area))
        mujoco.mj_resetData(self.model, self.data)
        self._set_scene(scene)
        self._vary_looks(rng)
        wide = self.perturbation.start_spread
        self.settle(rng, self.config.start_spread if wide is None else wide)
        self.instruction, self.command_wanted = sentence, scene.command
        self._note_origin()
        return sentence

    @property
    def objects(self) -> tuple[SceneObject, ...]:
        """Graspable objects of the scene."""
        return self.scene.objects

    def _set_scene(self, scene: TabletopScene) -> None:
        """Put the objects and receptacles of a scene on the table and hide all others."""
        config, self.scene = self.config, scene
        for slot in range(config.max_objects):
            if slot < len(scene.objects):
                self._show(slot, scene.objects[slot])
            else:
                self._hide([slot_geom(slot, name) for name in config.shapes], slot_body(slot), slot)
        if not config.furnished:
            return
        for index in range(MAX_RECEPTACLES):
            names = [name for kind in RECEPTACLES for name in receptacle_geoms(index, kind)]
            self._hide(names, receptacle_body(index), config.max_objects + index)
            if index < len(scene.receptacles):
                self._show_receptacle(index, scene.receptacles[index])
        for number, name in enumerate(DISTRACTORS):
            self._hide([name], name, config.max_objects + MAX_RECEPTACLES + number)

    def _show(self, slot: int, item: SceneObject) -> None:
        """Show `item` in a slot, at the item's place."""
        shapes = self.config.shapes
        for name in shapes:
            geom = self.model.geom(slot_geom(slot, name))
            shown = name == item.shape
            geom.rgba[:] = (*COLOURS[item.colour], 1.0) if shown else 0.0
            geom.contype[:] = OBJECT_BITS if shown else 0
            geom.conaffinity[:] = (ARM_BITS | OBJECT_BITS) if shown else 0
        self._put(slot_body(slot), item, shapes[item.shape].half_height + 0.002)
        self._keep(slot_body(slot), False)

    def _put(self, body: str, item: SceneObject, height: float) -> None:
        """Put a body at the place of `item`, its origin `height` m above the table."""
        address = self.model.joint(body).qposadr[0]
        self.data.qpos[address : address + 7] = [
            *item.position,
            self.layout.top + height,
            np.cos(item.yaw / 2),
            0.0,
            0.0,
            np.sin(item.yaw / 2),
        ]

    def _show_receptacle(self, index: int, item: SceneObject) -> None:
        for name in receptacle_geoms(index, item.shape):
            self._reveal(name, (*COLOURS[item.colour], 1.0))
        self._put(receptacle_body(index), item, 0.001)
        self._keep(receptacle_body(index), False)

    def _reveal(self, name: str, rgba: tuple[float, ...]) -> None:
        geom = self.model.geom(name)
        geom.rgba[:], geom.contype[:], geom.conaffinity[:] = rgba, OBJECT_BITS, ARM_BITS | OBJECT_BITS

    def _hide(self, geoms: list[str], body: str, place: int) -> None:
        """Hide a body, disable its contacts, and keep it out of view of the cameras."""
        for name in geoms:
            geom = self.model.geom(name)
            geom.rgba[3], geom.contype[:], geom.conaffinity[:] = 0.0, 0, 0
        address = self.model.joint(body).qposadr[0]
        self.data.qpos[address : address + 7] = [
            -1.0,
            0.3 * place,
            HIDDEN + min(self.layout.top, 0.0),
            1.0,
            0.0,
            0.0,
            0.0,
        ]
        self._keep(body, True)

    def _keep(self, body: str, still: bool) -> None:
        """Compensate a body's gravity so that it stays in place, or restore its weight."""
        self.model.body_gravcomp[self.model.body(body).id] = 1.0 if still else 0.0

    def _vary_looks(self, rng: np.random.Generator) -> None:
        """Vary light, table and cameras, then apply the perturbation with a separate random generator."""
        model, look = self.model, self.config.appearance
        model.light_pos[:] = self._light_pos + rng.uniform(-look.light, look.light, self._light_pos.shape)
        model.light_diffuse[:] = self._light_diffuse * rng.uniform(1.0 - look.brightness, 1.0 + look.brightness)
        table = model.geom("table")
        table.matid[:] = -1
        table.rgba[:3] = np.clip(self._table_rgba[:3] + rng.uniform(-look.table, look.table, 3), 0.0, 1.0)
        model.cam_quat[:] = self._camera_quat
        if look.camera_turn > 0.0:
            self._turn_cameras(rng.uniform(-look.camera_turn, look.camera_turn, (model.ncam, 3)))
        shift = self._camera_scale(look.camera, look.arm_camera)
        model.cam_pos[:] = self._camera_pos + shift * rng.uniform(-1.0, 1.0, self._camera_pos.shape)
        if self.config.furnished or self.perturbation != Perturbation():
            self._perturb(np.random.default_rng(rng.integers(2**32)))

    def look_otherwise(self, rng: np.random.Generator, change: Perturbation) -> None:
        """Change light, cameras and table as in `change` from now on; no object moves."""
        distractors, self.perturbation = self.perturbation.distractors, replace(change, distractors=())
        self._vary_looks(rng)
        self.perturbation = replace(change, distractors=distractors)
        mujoco.mj_camlight(self.model, self.data)

    def _camera_scale(self, size: float, arm_fraction: float = ARM_CAMERA_FRACTION) -> FloatArray:
        """Return (cameras, 1) m: `size` for fixed cameras, a fraction of it for those on the arm."""
        on_arm = self.model.cam_bodyid != 0
        return np.where(on_arm, arm_fraction * size, size)[:, None]

    def _turn_cameras(self, turns: FloatArray) -> None:
        """Rotate each camera from its mounted orientation by (cameras, 3) rad."""
        for camera, turn in enumerate(turns):
            self.model.cam_quat[camera] = self._camera_quat[camera]
            mujoco.mju_quatIntegrate(self.model.cam_quat[camera], np.ascontiguousarray(turn), 1.0)

    def _perturb(self, rng: np.random.Generator) -> None:
        model, change = self.model, self.perturbation
        if change.light > 0.0:
            model.light_pos[:] += change.light * rng.uniform(-1.0, 1.0, model.light_pos.shape)
            model.light_diffuse[:] *= rng.uniform(1.0 - 0.6 * change.light, 1.0 + 0.6 * change.light)
            model.light_diffuse[:] *= rng.uniform(1.0 - 0.2 * change.light, 1.0 + 0.2 * change.light, 3)
        if change.camera_shift > 0.0 or change.camera_turn > 0.0:
            scale = self._camera_scale(change.camera_shift)
            model.cam_pos[:] += scale * rng.uniform(-1.0, 1.0, model.cam_pos.shape)
            self._turn_cameras(change.camera_turn * rng.uniform(-1.0, 1.0, (model.ncam, 3)))
        if change.table:
            material = model.material(change.table[int(rng.integers(len(change.table)))])
            material.rgba[:3] = rng.uniform(1.0 - change.table_tint, 1.0, 3)
            model.geom("table").matid[:] = material.id
            model.geom("table").rgba[:] = 1.0
        for number, name in enumerate(change.distractors):
            self._add_distractor(rng, change.distractors[:number], name)

    def _add_distractor(self, rng: np.random.Generator, before: Sequence[str], name: str) -> None:
        """Put a distractor at the first free place out of 100 drawn; on a full table it is left out."""
        taken = [np.array(item.position) for item in self.scene.things]
        taken += [self.data.qpos[self.model.joint(other).qposadr[0] :][:2] for other in before]
        for _ in range(100):
            spot = place_apart(rng, ["cube"], reach=self.layout.area(self.config.area))[0]
            if all(np.linalg.norm(np.subtract(spot, other)) >= 0.11 for other in taken):
                self._reveal(name, tuple(DISTRACTORS[name][2]))
                self._put(name, SceneObject("", "", spot, float(rng.uniform(-0.3, 0.3))), 0.04)
                self._keep(name, False)
                return

    @property
    def target_name(self) -> str:
        """Name of the first object in the current instruction."""
        return self.command_wanted.name

    def _note_origin(self) -> None:
        """Store the current positions as the origin from which motion is measured."""
        self._origin = [self._thing_position(i).copy() for i in range(len(self.scene.things))]

    def set_instruction(self, instruction: str) -> None:
        """Set the success checker's instruction for the same scene.

        Raises:
            InstructionError: when it does not name objects on the table.
        """
        self.command_wanted = self.config.parse(instruction, self.scene)
        self.instruction = instruction
        if self.config.origin_follows_instruction:
            self._note_origin()

    def observe(self) -> Observation:
        """Return the policy's observation: images at its resolution, state and instruction."""
        state = self.state()
        return Observation(self.policy_images(), state, Instruction(self.instruction), state.stamp)

    def _index(self, pair: tuple[str, str]) -> int:
        return [item.pair for item in self.scene.things].index(pair)

    def _body(self, index: int) -> str:
        count = len(self.objects)
        return slot_body(index) if index < count else receptacle_body(index - count)

    def _thing_position(self, index: int) -> FloatArray:
        return np.asarray(self.data.body(self._body(index)).xpos)

    def thing_position(self, pair: tuple[str, str]) -> FloatArray:
        """Return the position (3,) m of the (color, shape) object (its center) or receptacle (its base)."""
        return self._thing_position(self._index(pair)).copy()

    @property
    def target(self) -> SceneObject:
        """First object in the current instruction."""
        return self.scene.things[self._index(self.command_wanted.thing)]

    def grasped(self) -> str:
        """Return the name of the object that two fingers touch, or ""."""
        held = self.bodies_between_fingers()
        for slot, item in enumerate(self.objects):
            if self.model.body(slot_body(slot)).id in held:
                return item.name
        return ""

    def handled(self) -> str:
        """Return the name of the object that the arm has moved far enough, or lifted and holds; else ""."""
        ways = [self._thing_position(i) - self._origin[i] for i in range(len(self.objects))]
        if self.config.handled is None:
            held = self.grasped()
            lifted = (way[2] >= LIFT_HEIGHT and item.name == held for way, item in zip(ways, self.objects, strict=True))
            return held if any(lifted) else ""
        moved = [float(np.linalg.norm(way)) for way in ways]
        most = int(np.argmax(moved))
        return self.objects[most].name if moved[most] >= self.config.handled else ""

    def rest(self, command: Command) -> Rest:
        """Return how the object of a "place" or "stack" rests relative to its goal."""
        if command.goal is None:
            raise InstructionError(f"'{command.act.value}' has no goal")
        thing, goal = self._index(command.thing), self._index(command.goal)
        body, support = self.model.body(self._body(thing)).id, self.model.body(self._body(goal)).id
        touching = set()
        for contact in self.data.contact:
            bodies = [int(self.model.geom_bodyid[g]) for g in contact.geom]
            if body in bodies:
                touching.add(bodies[0] if bodies[1] == body else bodies[1])
        fingers = {int(self.model.geom_bodyid[g]) for g in self._finger_of_geom}
        way = self._thing_position(thing) - self._thing_position(goal)
        return Rest(
            supported=support in touching,
            touched=bool(touching & fingers),
            aside=float(np.hypot(way[0], way[1])),
            above=float(way[2]) - rest_height(command),
            speed=float(np.linalg.norm(self.data.joint(self._body(thing)).qvel[:3])),
        )

    def task_status(self) -> TaskStatus:
        """Check the current instruction against the physics state."""
        command, index = self.command_wanted, self._index(self.command_wanted.thing)
        way = self._thing_position(index) - self._origin[index]
        grasped = self.grasped()
        if command.act is Act.PICK:
            return judge_pick(self.objects[index], float(way[2]), grasped)
        if command.act is Act.PUSH and command.direction is not None:
            along = np.array(DIRECTION_VECTORS[command.direction])
            forward = float(way[:2] @ along)
            aside = float(np.linalg.norm(way[:2] - forward * along))
            return judge_push(forward, aside, float(way[2]), command.name, command.direction, grasped)
        reach = STACK_ASIDE if command.act is Act.STACK else RECEPTACLES[command.goal[1]].size[0]  # type: ignore[index]
        return judge_rest(self.rest(command), reach, command.name, command.goal_name, grasped == command.name)

    def success(self) -> bool:
        """Return whether the current instruction is fulfilled."""
        return self.task_status().success

    def progress(self) -> float:
        """Return the task's progress, 0 to 1, also before anything is held; used to compare clips.

        The first half is the approach of the nearest tool to the target, over the last `PROGRESS_REACH` m.
        """
        target = self._thing_position(self._index(self.command_wanted.thing))
        away = min(float(np.linalg.norm(target - tool)) for tool in self.tool_positions)
        near = max(0.0, 1.0 - away / PROGRESS_REACH)
        return max(0.5 * near, self.task_status().progress)


def rest_height(command: Command) -> float:
    """Return the height of an object's center above its goal's position when it rests there, m."""
    if command.goal is None:
        raise InstructionError(f"'{command.act.value}' has no goal")
    half = SHAPES[command.thing[1]].half_height
    return half + (SHAPES[command.goal[1]].half_height if command.act is Act.STACK else 2.0 * FLOOR_HALF_HEIGHT)
