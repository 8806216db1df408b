"""The cell with the tabletop tasks: pick, place in or on, push, stack; up to five things, deterministic by seed."""

from __future__ import annotations

from vla_ros.envs.mujoco.workcell import Cell  # isort: skip  (sets the OpenGL back end before mujoco is imported)

from collections.abc import Sequence
from dataclasses import replace

import mujoco
import numpy as np

from vla_ros.envs.mujoco.model import ARM_BITS, OBJECT_BITS, build_model, slot_body, slot_geom
from vla_ros.envs.tabletop.model import (
    DISTRACTORS,
    FLOOR_HALF_HEIGHT,
    furnish,
    receptacle_body,
    receptacle_geoms,
)
from vla_ros.envs.tabletop.objects import SceneObject
from vla_ros.envs.tabletop.perturbations import Perturbation
from vla_ros.envs.tabletop.scene import (
    COLOURS,
    DIRECTION_VECTORS,
    MAX_RECEPTACLES,
    MAX_THINGS,
    REACH,
    RECEPTACLES,
    SHAPES,
    TabletopScene,
    place_apart,
    sample_command,
    sample_tabletop,
)
from vla_ros.envs.tabletop.success import STACK_ASIDE, Rest, judge_push, judge_rest
from vla_ros.envs.tabletop.tasks import TaskStatus, judge_pick
from vla_ros.errors import InstructionError, SimulationError
from vla_ros.language.commands import Act, Command, understand
from vla_ros.language.phrasing import say
from vla_ros.types import FloatArray

HANDLED = 0.025
"""A thing that has moved so far, m, has been handled."""

START_SPREAD = 0.10
"""Each arm joint starts within this of home, rad."""

HIDDEN = -0.5
"""Where what is not in the scene is kept: so high, m, behind the robot."""


class TabletopCell(Cell):
    """See the module. `perturbation` holds from the next reset on."""

    perturbation = Perturbation()

    def _build(self) -> mujoco.MjModel:
        return build_model(self.contract, SHAPES, MAX_THINGS, furnish, self.layout)

    def _draw_scene(self, rng: np.random.Generator, instruction: str | None) -> tuple[TabletopScene, str]:
        command = sample_command(rng) if instruction is None else understand(instruction)
        return self._scene_of(rng, command), instruction or say(command)

    def _scene_of(self, rng: np.random.Generator, command: Command) -> TabletopScene:
        """Place what `command` needs, and as many other things as the table has room for."""
        reach = self.layout.area(REACH)
        for most in range(MAX_THINGS, 2, -1):
            try:
                return sample_tabletop(rng, command, reach, most)
            except SimulationError:
                continue
        return sample_tabletop(rng, command, reach, 2)

    def _set_scene(self, scene: TabletopScene) -> None:
        self.scene, self.command_wanted = scene, scene.command
        self.objects, self.receptacles = scene.objects, scene.receptacles
        for slot in range(MAX_THINGS):
            if slot < len(scene.objects):
                self._show(slot, scene.objects[slot], SHAPES, COLOURS[scene.objects[slot].colour])
                self._keep(slot_body(slot), False)
            else:
                self._hide([slot_geom(slot, name) for name in SHAPES], slot_body(slot), slot)
        for index in range(MAX_RECEPTACLES):
            names = [name for kind in RECEPTACLES for name in receptacle_geoms(index, kind)]
            self._hide(names, receptacle_body(index), MAX_THINGS + index)
            if index < len(scene.receptacles):
                self._show_receptacle(index, scene.receptacles[index])
        for number, name in enumerate(DISTRACTORS):
            self._hide([name], name, MAX_THINGS + MAX_RECEPTACLES + number)

    def _show_receptacle(self, index: int, item: SceneObject) -> None:
        for name in receptacle_geoms(index, item.shape):
            self._reveal(name, (*COLOURS[item.colour], 1.0))
        self._put(receptacle_body(index), item, 0.001)
        self._keep(receptacle_body(index), False)

    def _reveal(self, name: str, rgba: tuple[float, ...]) -> None:
        geom = self.model.geom(name)
        geom.rgba[:], geom.contype[:], geom.conaffinity[:] = rgba, OBJECT_BITS, ARM_BITS | OBJECT_BITS

    def _hide(self, geoms: list[str], body: str, place: int) -> None:
        """Make a body invisible and untouchable, and keep it where no camera looks."""
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
        """Let a body hang where it is, or have its weight."""
        self.model.body_gravcomp[self.model.body(body).id] = 1.0 if still else 0.0

    def _vary_looks(self, rng: np.random.Generator) -> None:
        """Change light, table and cameras, then what is perturbed, by a generator of its own."""
        model = self.model
        model.light_pos[:] = self._light_pos + rng.uniform(-0.4, 0.4, self._light_pos.shape)
        model.light_diffuse[:] = self._light_diffuse * rng.uniform(0.7, 1.3)
        table = model.geom("table")
        table.matid[:] = -1
        table.rgba[:3] = np.clip(self._table_rgba[:3] + rng.uniform(-0.12, 0.12, 3), 0.0, 1.0)
        shift, turn = self._camera_scale(0.008), rng.uniform(-0.008, 0.008, (model.ncam, 3))
        model.cam_pos[:] = self._camera_pos + shift * rng.uniform(-1.0, 1.0, self._camera_pos.shape)
        self._turn_cameras(turn)
        self._perturb(np.random.default_rng(rng.integers(2**32)))

    def look_otherwise(self, rng: np.random.Generator, change: Perturbation) -> None:
        """Let the scene look as `change` says from now on: light, cameras and table; nothing moves."""
        distractors, self.perturbation = self.perturbation.distractors, replace(change, distractors=())
        self._vary_looks(rng)
        self.perturbation = replace(change, distractors=distractors)
        mujoco.mj_camlight(self.model, self.data)

    def _camera_scale(self, size: float) -> FloatArray:
        """Return (cameras, 1) m: `size` for those that stand, a fifth of it for those on the arm."""
        on_arm = self.model.cam_bodyid != 0
        return np.where(on_arm, 0.2 * size, size)[:, None]

    def _turn_cameras(self, turns: FloatArray) -> None:
        """Turn each camera from its place by (cameras, 3) rad."""
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
        """Lay a distractor at the first free place of a few that are tried; a full table stays without it."""
        taken = [np.array(item.position) for item in self.scene.things]
        taken += [self.data.qpos[self.model.joint(other).qposadr[0] :][:2] for other in before]
        for _ in range(100):
            spot = place_apart(rng, ["cube"], reach=self.layout.area(REACH))[0]
            if all(np.linalg.norm(np.subtract(spot, other)) >= 0.11 for other in taken):
                self._reveal(name, tuple(DISTRACTORS[name][2]))
                self._put(name, SceneObject("", "", spot, float(rng.uniform(-0.3, 0.3))), 0.04)
                self._keep(name, False)
                return

    def _take_start(self, rng: np.random.Generator, spread: float) -> None:
        wide = self.perturbation.start_spread
        super()._take_start(rng, START_SPREAD if wide is None else wide)
        self._origin = [self._thing_position(i).copy() for i in range(len(self.scene.things))]

    def set_instruction(self, instruction: str) -> None:
        """Let the judge follow another sentence about the same scene; a push counts from here.

        Raises:
            InstructionError: when it does not name things on the table.
        """
        command = understand(instruction)
        there = [(item.colour, item.shape) for item in self.scene.things]
        for pair in (command.thing, command.goal):
            if pair is not None and pair not in there:
                names = ", ".join(item.name for item in self.scene.things)
                raise InstructionError(f"'{instruction}': there is no {' '.join(pair)} on the table, only {names}")
        self.instruction, self.command_wanted = instruction, command
        self._origin = [self._thing_position(i).copy() for i in range(len(self.scene.things))]

    def _index(self, pair: tuple[str, str]) -> int:
        return [(item.colour, item.shape) for item in self.scene.things].index(pair)

    def _body(self, index: int) -> str:
        count = len(self.objects)
        return slot_body(index) if index < count else receptacle_body(index - count)

    def _thing_position(self, index: int) -> FloatArray:
        return np.asarray(self.data.body(self._body(index)).xpos)

    def thing_position(self, pair: tuple[str, str]) -> FloatArray:
        """Return where the thing called (colour, shape) is, (3,) m: an object's centre, a receptacle's foot."""
        return self._thing_position(self._index(pair)).copy()

    @property
    def target(self) -> SceneObject:
        """The object that the current instruction names first."""
        return self.scene.things[self._index(self.command_wanted.thing)]

    def handled(self) -> str:
        """Return the name of the object that has moved furthest since the instruction, if far enough; else ""."""
        moved = [float(np.linalg.norm(self._thing_position(i) - self._origin[i])) for i in range(len(self.objects))]
        most = int(np.argmax(moved))
        return self.objects[most].name if moved[most] >= HANDLED else ""

    def rest(self, command: Command) -> Rest:
        """Return where the thing of a "place" or "stack" lies with respect to its goal."""
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
        """Judge the current instruction by the physics."""
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


def rest_height(command: Command) -> float:
    """Return how high above its goal's position a thing's centre is when it lies there, m."""
    if command.goal is None:
        raise InstructionError(f"'{command.act.value}' has no goal")
    half = SHAPES[command.thing[1]].half_height
    return half + (SHAPES[command.goal[1]].half_height if command.act is Act.STACK else 2.0 * FLOOR_HALF_HEIGHT)
