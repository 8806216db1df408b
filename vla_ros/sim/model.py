"""Builds the MuJoCo model of the cell: the arm from its URDF, a table, object slots, cameras and servos."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from xml.etree import ElementTree

import mujoco
import numpy as np

import vla_ros.sim.rendering  # noqa: F401  (sets the OpenGL back end before mujoco is imported)
from vla_ros.errors import SimulationError
from vla_ros.robot.contract import RobotContract
from vla_ros.robot.description import with_fixed_joints
from vla_ros.robot.mesh_paths import with_absolute_meshes
from vla_ros.robot.posture import described_mimics
from vla_ros.sim.scene import SHAPES, Shape

SLOTS = 3
"""How many objects a scene can hold."""

TIMESTEP = 0.002
"""Physics step, s."""

ARM_BITS, OBJECT_BITS = 1, 2
"""Contact groups: the arm's links touch objects and table, not each other (the safety layer watches those)."""

FRONT_CAMERA: dict[str, Any] = {"pos": (1.20, 0.0, 0.70), "look_at": (0.47, 0.0, 0.13), "fovy": 35.0}
WRIST_CAMERA: dict[str, Any] = {"pos": (0.085, 0.0, 0.035), "look_at": (0.020, 0.0, 0.15), "fovy": 65.0}
TOOL_CAMERA: dict[str, Any] = {"pos": (0.085, 0.0, -0.068), "look_at": (0.020, 0.0, 0.047), "fovy": 65.0}
"""The wrist camera of a robot that has no link `*_hand`, on its end effector frame: z is where the tool points."""

TABLE: dict[str, Any] = {"size": (0.45, 0.55, 0.02), "pos": (0.40, 0.0, -0.02), "rgba": (0.72, 0.66, 0.58, 1.0)}
"""Half sizes and centre, m: its top is at z = 0."""

FLOOR: dict[str, Any] = {"pos": (0.0, 0.0, -0.75), "rgba": (0.42, 0.45, 0.50, 1.0)}
OBJECT_MASS = 0.05


def slot_body(slot: int) -> str:
    """Name of the body that holds object number `slot`."""
    return f"object_{slot}"


def slot_geom(slot: int, shape: str) -> str:
    """Name of the geom that shows slot `slot` as `shape`; the others of the slot are hidden."""
    return f"object_{slot}_{shape}"


def _look_at(position: tuple[float, ...], target: tuple[float, ...], right: tuple[float, ...]) -> list[float]:
    """Return MuJoCo `xyaxes` of a camera at `position` that looks at `target`, x axis nearest to `right`."""
    backward = np.subtract(position, target)
    backward = backward / np.linalg.norm(backward)
    x = np.asarray(right) - backward * float(np.dot(right, backward))
    x = x / np.linalg.norm(x)
    return [*x, *np.cross(backward, x)]


def build_model(
    contract: RobotContract, shapes: Mapping[str, Shape] = SHAPES, slots: int = SLOTS,
    furnish: Callable[[mujoco.MjSpec], None] | None = None,
) -> mujoco.MjModel:  # fmt: skip
    """Compile the cell for a robot.

    Args:
        contract: The robot.
        shapes: What each slot can show.
        slots: How many objects there can be.
        furnish: Adds what else stands in the cell.

    Raises:
        SimulationError: when the URDF lacks what the contract names, or MuJoCo refuses it.
    """
    try:
        spec = _read_description(contract)
        spec.compiler.fusestatic = False
        spec.compiler.discardvisual = True
        _set_options(spec)
        _prepare_arm(spec, contract)
        _add_table(spec)
        for slot in range(slots):
            _add_slot(spec, slot, shapes)
        if furnish is not None:
            furnish(spec)
        _add_cameras(spec, contract)
        return spec.compile()
    except (ValueError, KeyError) as error:
        raise SimulationError(f"cannot build the cell from {contract.urdf}: {error}") from error


def _read_description(contract: RobotContract) -> mujoco.MjSpec:
    text = with_fixed_joints(contract.urdf.read_text(encoding="utf-8"), contract.joints.fixed)
    if "<mesh" in text:
        text = _with_found_meshes(text, contract)
    return mujoco.MjSpec.from_string(text)


def _with_found_meshes(text: str, contract: RobotContract) -> str:
    """Return a description whose collision meshes have absolute paths, which MuJoCo keeps, and that shows no others."""
    root = ElementTree.fromstring(text)
    with_absolute_meshes(root, contract.urdf)
    for link in root.findall("link"):
        for visual in link.findall("visual"):
            link.remove(visual)
    for old in root.findall("mujoco"):
        root.remove(old)
    ElementTree.SubElement(ElementTree.SubElement(root, "mujoco"), "compiler", strippath="false")
    return ElementTree.tostring(root, encoding="unicode")


def finger_joints(contract: RobotContract) -> tuple[str, ...]:
    """Return the joints of the gripper that move: those that are commanded, and those that follow one of them."""
    followers = described_mimics(contract.urdf.read_text(encoding="utf-8"))
    names = list(contract.gripper.names)
    while more := [name for name, one in followers.items() if one.leader in names and name not in names]:
        names += more
    return tuple(names)


def _set_options(spec: mujoco.MjSpec) -> None:
    spec.option.timestep = TIMESTEP
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    spec.option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
    spec.option.impratio = 10.0  # friction as stiff as the normal force: grasped things do not creep
    spec.visual.quality.offsamples = 0  # images are resized by area, which smooths edges well enough
    spec.visual.global_.offwidth = 1920
    spec.visual.global_.offheight = 1080
    spec.visual.headlight.ambient = [0.35, 0.35, 0.35]
    spec.visual.headlight.diffuse = [0.30, 0.30, 0.30]
    spec.visual.map.znear = 0.02


def _prepare_arm(spec: mujoco.MjSpec, contract: RobotContract) -> None:
    for body in spec.bodies:
        if body.name == "world":
            continue
        body.gravcomp = 1.0  # the arm's own controller compensates gravity
        finger = body.name.endswith("finger")
        index = spec.bodies.index(body)
        for geom in body.geoms:
            geom.contype, geom.conaffinity = ARM_BITS, OBJECT_BITS
            geom.rgba = [0.90, 0.90, 0.93, 1.0] if index % 2 else [0.38, 0.40, 0.45, 1.0]
            if finger:
                geom.friction = [1.5, 0.02, 0.001]
                geom.condim = 4
                geom.rgba = [0.20, 0.20, 0.22, 1.0]
    for name, effort in zip(contract.joints.names, contract.joints.effort, strict=True):
        joint = spec.joint(name)
        joint.armature = 0.1
        stiffness = 40.0 * effort
        _add_servo(spec, name, stiffness, damping=2.0 * np.sqrt(stiffness * 0.4), force=effort)
    for name in contract.gripper.names:
        spec.joint(name).armature = 0.05
        _add_servo(spec, name, stiffness=2000.0, damping=40.0, force=contract.gripper.force)


def _add_servo(spec: mujoco.MjSpec, joint: str, stiffness: float, damping: float, force: float) -> None:
    """A position servo with a torque limit: force = stiffness * (reference - q) - damping * qdot."""
    actuator = spec.add_actuator(name=joint, target=joint, trntype=mujoco.mjtTrn.mjTRN_JOINT)
    actuator.gaintype, actuator.biastype = mujoco.mjtGain.mjGAIN_FIXED, mujoco.mjtBias.mjBIAS_AFFINE
    actuator.gainprm[0] = stiffness
    actuator.biasprm[1], actuator.biasprm[2] = -stiffness, -damping
    actuator.forcelimited, actuator.forcerange = True, [-force, force]


def _add_table(spec: mujoco.MjSpec) -> None:
    world = spec.worldbody
    world.add_light(name="key", pos=[0.4, -0.6, 1.6], dir=[0.1, 0.5, -1.0], diffuse=[0.55, 0.55, 0.55],
                    castshadow=False)  # fmt: skip
    world.add_geom(name="table", type=mujoco.mjtGeom.mjGEOM_BOX, size=list(TABLE["size"]), pos=list(TABLE["pos"]),
                   rgba=list(TABLE["rgba"]), contype=OBJECT_BITS, conaffinity=ARM_BITS | OBJECT_BITS,
                   friction=[1.0, 0.005, 0.0001])  # fmt: skip
    world.add_geom(name="floor", type=mujoco.mjtGeom.mjGEOM_PLANE, size=[3.0, 3.0, 0.1], pos=list(FLOOR["pos"]),
                   rgba=list(FLOOR["rgba"]), contype=OBJECT_BITS, conaffinity=OBJECT_BITS)  # fmt: skip


def _add_slot(spec: mujoco.MjSpec, slot: int, shapes: Mapping[str, Shape]) -> None:
    body = spec.worldbody.add_body(name=slot_body(slot), pos=[0.5, 0.1 * slot, 0.05])
    body.add_freejoint(name=slot_body(slot))
    body.explicitinertial = True
    body.mass, body.inertia = OBJECT_MASS, [2.0e-5, 2.0e-5, 2.0e-5]
    body.ipos, body.iquat = [0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]
    types = {"box": mujoco.mjtGeom.mjGEOM_BOX, "cylinder": mujoco.mjtGeom.mjGEOM_CYLINDER,
             "sphere": mujoco.mjtGeom.mjGEOM_SPHERE}  # fmt: skip
    for name, shape in shapes.items():
        body.add_geom(name=slot_geom(slot, name), type=types[shape.geom], size=list(shape.size), mass=0.0,
                      contype=OBJECT_BITS, conaffinity=ARM_BITS | OBJECT_BITS, rgba=[0.0] * 4, condim=6,
                      friction=[1.2, 0.02, 0.002])  # fmt: skip


def _add_cameras(spec: mujoco.MjSpec, contract: RobotContract) -> None:
    wanted = {camera.name for camera in contract.cameras}
    if unknown := wanted - {"front", "wrist"}:
        raise SimulationError(f"the cell has the cameras 'front' and 'wrist', the contract also wants {unknown}")
    views = []
    if "front" in wanted:
        views.append(("front", spec.worldbody, FRONT_CAMERA))
    if "wrist" in wanted:
        hand = next((body for body in spec.bodies if body.name.endswith("_hand")), None)
        tool = spec.body(contract.end_effector_frame)
        if hand is None and tool is None:
            raise SimulationError(f"{contract.urdf.name} has no link '{contract.end_effector_frame}' to carry a camera")
        views.append(("wrist", tool, TOOL_CAMERA) if hand is None else ("wrist", hand, WRIST_CAMERA))
    for name, body, view in views:
        axes = _look_at(view["pos"], view["look_at"], (0.0, 1.0, 0.0))
        body.add_camera(name=name, pos=list(view["pos"]), fovy=view["fovy"], xyaxes=axes)
