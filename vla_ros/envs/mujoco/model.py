"""Builds the MuJoCo model of the workcell: the arm from its URDF, a table, object slots, cameras and servos."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import mujoco
import numpy as np

import vla_ros.envs.mujoco.rendering  # noqa: F401  (sets the OpenGL back end before mujoco is imported)
from vla_ros.envs.mujoco.camera_mounts import CameraMount, camera_mounts
from vla_ros.envs.mujoco.fingers import gripper_joints
from vla_ros.envs.mujoco.layout import REFERENCE_LAYOUT, Layout
from vla_ros.envs.mujoco.mesh_assets import take_meshes
from vla_ros.envs.tabletop.objects import SHAPES, Shape
from vla_ros.errors import SimulationError
from vla_ros.robot.contract import GripperContract, RobotContract
from vla_ros.robot.description.urdf import with_fixed_joints

SLOTS = 3
"""Maximum number of objects in a scene."""

TIMESTEP = 0.002
"""Physics step, s."""

ARM_BITS, OBJECT_BITS = 1, 2
"""Contact groups: arm links collide with objects and table, not with each other (the safety layer checks those)."""

TABLE_RGBA = (0.72, 0.66, 0.58, 1.0)
FLOOR: dict[str, Any] = {"pos": (0.0, 0.0, -0.75), "rgba": (0.42, 0.45, 0.50, 1.0)}
OBJECT_MASS = 0.05

ARMATURE, ARMATURE_EFFORT = 0.1, 12.0
"""Armature of joints with at least this maximum torque, (kg m^2, N m); proportionally less below it."""

MIN_ARMATURE = 1e-4
LEAST_MASS, LEAST_INERTIA = 1e-3, 1e-6
"""Mass and inertia of a moving link whose description gives none, kg and kg m^2."""


def slot_body(slot: int) -> str:
    """Return the name of the body of object number `slot`."""
    return f"object_{slot}"


def slot_geom(slot: int, shape: str) -> str:
    """Return the name of the geom that shows slot `slot` as `shape`; the slot's other geoms are hidden."""
    return f"object_{slot}_{shape}"


def build_model(
    contract: RobotContract,
    shapes: Mapping[str, Shape] = SHAPES,
    slots: int = SLOTS,
    furnish: Callable[[mujoco.MjSpec], None] | None = None,
    layout: Layout = REFERENCE_LAYOUT,
) -> mujoco.MjModel:
    """Compile the workcell of a robot.

    Args:
        contract: The robot.
        shapes: Shapes that each slot can show.
        slots: Maximum number of objects.
        furnish: Adds further fixtures to the workcell.
        layout: Position of the table.

    Raises:
        ContractError: when a mesh file of the description is missing.
        SimulationError: when a camera cannot be placed, a mesh cannot be read, or MuJoCo rejects the description.
    """
    text = with_fixed_joints(contract.urdf.read_text(encoding="utf-8"), contract.joints.fixed)
    mounts = camera_mounts(contract, text, layout)
    try:
        spec = _read_description(text, contract.urdf)
        spec.compiler.fusestatic = False
        spec.compiler.discardvisual = True
        _set_options(spec)
        _prepare_arm(spec, contract)
        _add_table(spec, layout)
        for slot in range(slots):
            _add_slot(spec, slot, shapes)
        if furnish is not None:
            furnish(spec)
        _add_cameras(spec, mounts)
        return spec.compile()
    except (ValueError, KeyError) as error:
        raise SimulationError(f"cannot build the workcell from {contract.urdf}: {error}") from error


def _read_description(text: str, urdf: Path) -> mujoco.MjSpec:
    if "<mesh" not in text:
        return mujoco.MjSpec.from_string(text)
    root = ElementTree.fromstring(text)
    assets = take_meshes(root, urdf)
    for old in root.findall("mujoco"):
        root.remove(old)
    return mujoco.MjSpec.from_string(ElementTree.tostring(root, encoding="unicode"), assets=assets)


def _set_options(spec: mujoco.MjSpec) -> None:
    spec.option.timestep = TIMESTEP
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    spec.option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
    spec.option.impratio = 10.0  # stiffer friction than normal force: grasped objects do not creep
    spec.visual.quality.offsamples = 0  # no multisampling: images are resized by area, which smooths edges enough
    spec.visual.global_.offwidth = 1920
    spec.visual.global_.offheight = 1080
    spec.visual.headlight.ambient = [0.35, 0.35, 0.35]
    spec.visual.headlight.diffuse = [0.30, 0.30, 0.30]
    spec.visual.map.znear = 0.02


def _prepare_arm(spec: mujoco.MjSpec, contract: RobotContract) -> None:
    spec.compiler.balanceinertia = True  # descriptions round their inertias; MuJoCo rejects impossible ones
    fingers = {spec.joint(name).parent.name for name in gripper_joints(contract)}
    for body in spec.bodies:
        if body.name == "world":
            continue
        body.gravcomp = 1.0  # the arm's own controller compensates gravity
        _give_mass(body)
        finger = body.name in fingers
        index = spec.bodies.index(body)
        for geom in body.geoms:
            geom.contype, geom.conaffinity = ARM_BITS, OBJECT_BITS
            geom.rgba = [0.90, 0.90, 0.93, 1.0] if index % 2 else [0.38, 0.40, 0.45, 1.0]
            if finger:
                geom.friction = [1.5, 0.02, 0.001]
                geom.condim = 4
                geom.rgba = [0.20, 0.20, 0.22, 1.0]
    for name, effort in zip(contract.joints.names, contract.joints.effort, strict=True):
        armature = ARMATURE * min(1.0, float(effort) / ARMATURE_EFFORT)
        spec.joint(name).armature = armature
        stiffness = 40.0 * effort
        _add_servo(spec, name, stiffness, damping=2.0 * np.sqrt(stiffness * (4.0 * armature)), force=effort)
    for arm in contract.arms:
        _prepare_gripper(spec, arm.gripper)


def _prepare_gripper(spec: mujoco.MjSpec, gripper: GripperContract) -> None:
    for name, closed, far in zip(gripper.names, gripper.closed, gripper.open, strict=True):
        # Opening per joint motion, m/m or m/rad: force and stiffness are specified at the fingertips.
        lever = (gripper.max_opening - gripper.min_opening) / (len(gripper.names) * abs(far - closed))
        spec.joint(name).armature = max(0.05 * lever**2, MIN_ARMATURE)
        _add_servo(spec, name, stiffness=2000.0 * lever**2, damping=40.0 * lever**2, force=gripper.force * lever)


def _give_mass(body: mujoco.MjsBody) -> None:
    """Give a moving link without mass a small one: descriptions may contain such links, which MuJoCo rejects."""
    if body.joints and not body.explicitinertial and not body.geoms:
        body.explicitinertial = True
        body.mass, body.inertia = LEAST_MASS, [LEAST_INERTIA] * 3
        body.ipos, body.iquat = [0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]


def _add_servo(spec: mujoco.MjSpec, joint: str, stiffness: float, damping: float, force: float) -> None:
    """Add a position servo with a torque limit: force = stiffness * (reference - q) - damping * qdot."""
    actuator = spec.add_actuator(name=joint, target=joint, trntype=mujoco.mjtTrn.mjTRN_JOINT)
    actuator.gaintype, actuator.biastype = mujoco.mjtGain.mjGAIN_FIXED, mujoco.mjtBias.mjBIAS_AFFINE
    actuator.gainprm[0] = stiffness
    actuator.biasprm[1], actuator.biasprm[2] = -stiffness, -damping
    actuator.forcelimited, actuator.forcerange = True, [-force, force]


def _add_table(spec: mujoco.MjSpec, layout: Layout) -> None:
    world = spec.worldbody
    world.add_light(
        name="key", pos=[0.4, -0.6, 1.6], dir=[0.1, 0.5, -1.0], diffuse=[0.55, 0.55, 0.55], castshadow=False
    )
    world.add_geom(
        name="table",
        type=mujoco.mjtGeom.mjGEOM_BOX,
        size=list(layout.table_half_size),
        pos=list(layout.table_center),
        rgba=list(TABLE_RGBA),
        contype=OBJECT_BITS,
        conaffinity=ARM_BITS | OBJECT_BITS,
        friction=[1.0, 0.005, 0.0001],
    )
    floor = [0.0, 0.0, FLOOR["pos"][2] + min(layout.top, 0.0)]
    world.add_geom(
        name="floor",
        type=mujoco.mjtGeom.mjGEOM_PLANE,
        size=[3.0, 3.0, 0.1],
        pos=floor,
        rgba=list(FLOOR["rgba"]),
        contype=OBJECT_BITS,
        conaffinity=OBJECT_BITS,
    )


def _add_slot(spec: mujoco.MjSpec, slot: int, shapes: Mapping[str, Shape]) -> None:
    body = spec.worldbody.add_body(name=slot_body(slot), pos=[0.5, 0.1 * slot, 0.05])
    body.add_freejoint(name=slot_body(slot))
    body.explicitinertial = True
    body.mass, body.inertia = OBJECT_MASS, [2.0e-5, 2.0e-5, 2.0e-5]
    body.ipos, body.iquat = [0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]
    types = {
        "box": mujoco.mjtGeom.mjGEOM_BOX,
        "cylinder": mujoco.mjtGeom.mjGEOM_CYLINDER,
        "sphere": mujoco.mjtGeom.mjGEOM_SPHERE,
    }
    for name, shape in shapes.items():
        body.add_geom(
            name=slot_geom(slot, name),
            type=types[shape.geom],
            size=list(shape.size),
            mass=0.0,
            contype=OBJECT_BITS,
            conaffinity=ARM_BITS | OBJECT_BITS,
            rgba=[0.0] * 4,
            condim=6,
            friction=[1.2, 0.02, 0.002],
        )


def _add_cameras(spec: mujoco.MjSpec, mounts: Sequence[CameraMount]) -> None:
    for mount in mounts:
        body = spec.body(mount.link) if mount.link else spec.worldbody
        body.add_camera(name=mount.name, pos=list(mount.position), fovy=mount.field_of_view, xyaxes=list(mount.axes))
