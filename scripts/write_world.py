"""Writes worlds/pick.sdf: the workcell of vla_ros.envs for Gazebo, from the same constants. A test compares the two.

python scripts/write_world.py
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np

from vla_ros.envs.gazebo.scene import PARKED, WORLD, horizontal_fov, looking_pose, model_name
from vla_ros.envs.mujoco.camera_mounts import FIXED_FIELD_OF_VIEW, FRONT_POSITION, FRONT_TARGET
from vla_ros.envs.mujoco.layout import REFERENCE_LAYOUT
from vla_ros.envs.mujoco.model import FLOOR, OBJECT_MASS, TABLE_RGBA
from vla_ros.envs.tabletop.objects import COLOURS, SHAPES
from vla_ros.robot.contract import load_contract

VISIBILITY = 0x0FFFFFFF  # all bits that ogre2 supports; the default has more, and warns
POSES = "/scene/poses"  # includes names: the bridge reads them from a header that dynamic_pose/info leaves empty
AMBIENT, KEY_INTENSITY, KEY_FALLOFF = 0.8, 0.8, 4.0
"""Ambient light, and the lamp's: chosen so that table and floor are as bright as in the images of the MuJoCo workcell.

MuJoCo adds a light at each camera, and its lamp has another falloff; these values compensate for both. The gloss is
MuJoCo's: without it a nearby ball looks like the top of a cylinder.
"""

FILE = Path(__file__).resolve().parent.parent / "worlds" / f"{WORLD}.sdf"

HEAD = """\
<?xml version="1.0"?>
<!-- Written by scripts/write_world.py from the constants of the MuJoCo cell: the same table, objects and front camera.
     SDF 1.9 loads in Harmonic, Ionic and Jetty. The robot is spawned into it; its wrist camera is part of the robot.
     Objects wait on the floor behind the front camera until a scene takes them. -->
<sdf version="1.9">
  <world name="{world}">
    <physics name="1ms" type="dart">
      <max_step_size>0.001</max_step_size>
      <real_time_factor>1.0</real_time_factor>
      <max_contacts>4</max_contacts> <!-- a pair; enough to stand on, and half the work of the default 20 -->
    </physics>
    <plugin filename="gz-sim-physics-system" name="gz::sim::systems::Physics"/>
    <plugin filename="gz-sim-user-commands-system" name="gz::sim::systems::UserCommands"/>
    <plugin filename="gz-sim-scene-broadcaster-system" name="gz::sim::systems::SceneBroadcaster"/>
    <plugin filename="gz-sim-contact-system" name="gz::sim::systems::Contact"/>
    <plugin filename="gz-sim-sensors-system" name="gz::sim::systems::Sensors">
      <render_engine>ogre2</render_engine>
    </plugin>
    <scene>
      <ambient>{ambient} {ambient} {ambient} 1</ambient>
      <background>{background} 1</background>
      <shadows>false</shadows>
    </scene>
    <light name="key" type="spot">
      <pose>0.4 -0.6 1.6 0 0 0</pose>
      <direction>0.1 0.5 -1.0</direction>
      <intensity>{key}</intensity>
      <diffuse>1 1 1 1</diffuse>
      <specular>1 1 1 1</specular>
      <attenuation><range>10</range><constant>1</constant><linear>0</linear><quadratic>0</quadratic></attenuation>
      <spot><inner_angle>0.0</inner_angle><outer_angle>1.5708</outer_angle><falloff>{falloff}</falloff></spot>
      <cast_shadows>false</cast_shadows>
    </light>
"""

TAIL = "  </world>\n</sdf>\n"


def numbers(*values: float) -> str:
    """Return numbers as SDF writes them."""
    return " ".join(f"{round(float(value), 9) + 0.0:.9g}" for value in values)


def linear(rgb: tuple[float, ...]) -> str:
    """Return a color in Gazebo's linear light: ogre2 encodes images as sRGB (IEC 61966-2-1), MuJoCo does not."""
    shown = np.asarray(rgb, dtype=np.float64)
    return numbers(*np.where(shown <= 0.04045, shown / 12.92, ((shown + 0.055) / 1.055) ** 2.4))


def part(kind: str, geometry: str, rgb: tuple[float, ...], friction: float) -> str:
    """Return a visual and a collision of one geometry; `kind` names them."""
    colour = linear(rgb)
    return f"""\
        <collision name="{kind}_collision">
          <geometry>{geometry}</geometry>
          <surface><friction><ode><mu>{friction}</mu><mu2>{friction}</mu2></ode></friction></surface>
        </collision>
        <visual name="{kind}_visual">
          <geometry>{geometry}</geometry>
          <material>
            <ambient>{colour} 1</ambient>
            <diffuse>{colour} 1</diffuse>
            <specular>0.5 0.5 0.5 1</specular>
          </material>
        </visual>
"""


def static_model(name: str, position: tuple[float, ...], geometry: str, rgb: tuple[float, ...], friction: float) -> str:
    """Return a static model."""
    return f"""\
    <model name="{name}">
      <static>true</static>
      <pose>{numbers(*position)} 0 0 0</pose>
      <link name="link">
{part(name, geometry, rgb, friction)}\
      </link>
    </model>
"""


def geometry_of(shape: str) -> str:
    """Return the SDF geometry of one of the workcell's shapes."""
    size = SHAPES[shape].size
    if shape == "cube":
        return f"<box><size>{numbers(*(2 * side for side in size))}</size></box>"
    if shape == "cylinder":
        return f"<cylinder><radius>{numbers(size[0])}</radius><length>{numbers(2 * size[1])}</length></cylinder>"
    return f"<sphere><radius>{numbers(size[0])}</radius></sphere>"


# DART has no rolling friction. A damping torque replaces it, kg m^2/s: 8e-4 N m on a ball at 0.1 m/s, in the MuJoCo
# workcell 1e-3 N m (0.002 m times its weight). SNAME names of the damping about x, y and z.
ROLLING_RESISTANCE = """\
      <plugin filename="gz-sim-hydrodynamics-system" name="gz::sim::systems::Hydrodynamics">
        <link_name>link</link_name>
        <disable_added_mass>true</disable_added_mass>
        <disable_coriolis>true</disable_coriolis>
        <kP>-2e-4</kP><mQ>-2e-4</mQ><nR>-2e-4</nR>
      </plugin>
"""


def objects() -> Iterator[str]:
    """Yield every object that a scene can contain, parked."""
    for colour, shape in product(COLOURS, SHAPES):
        name = model_name(colour, shape)
        yield f"""\
    <model name="{name}">
      <pose>{numbers(*PARKED[name])} 0 0 0</pose>
      <link name="link">
        <inertial>
          <mass>{OBJECT_MASS}</mass>
          <inertia><ixx>2e-5</ixx><iyy>2e-5</iyy><izz>2e-5</izz><ixy>0</ixy><ixz>0</ixz><iyz>0</iyz></inertia>
        </inertial>
{part("object", geometry_of(shape), COLOURS[colour], 1.2)}\
      </link>
{"" if shape == "cube" else ROLLING_RESISTANCE}\
      <plugin filename="gz-sim-pose-publisher-system" name="gz::sim::systems::PosePublisher">
        <topic>{POSES}</topic>
        <use_pose_vector_msg>true</use_pose_vector_msg>
        <publish_model_pose>true</publish_model_pose>
        <publish_link_pose>false</publish_link_pose>
        <update_frequency>20</update_frequency>
      </plugin>
    </model>
"""


def front_camera() -> str:
    """Return the camera over the table, with the pinhole model of the workcell's camera."""
    camera = load_contract("panda").camera("front")
    pose = looking_pose(FRONT_POSITION, FRONT_TARGET)
    fov = horizontal_fov(FIXED_FIELD_OF_VIEW, camera.width, camera.height)
    return f"""\
    <model name="camera_front">
      <static>true</static>
      <pose>{numbers(*pose)}</pose>
      <link name="link">
        <sensor name="camera_front" type="camera">
          <always_on>true</always_on>
          <update_rate>{numbers(camera.rate_hz)}</update_rate>
          <topic>{camera.topic}</topic>
          <camera>
            <optical_frame_id>{camera.frame}</optical_frame_id>
            <camera_info_topic>{camera.info_topic}</camera_info_topic>
            <horizontal_fov>{numbers(fov)}</horizontal_fov>
            <image><width>{camera.width}</width><height>{camera.height}</height><format>R8G8B8</format></image>
            <clip><near>0.02</near><far>10</far></clip>
            <visibility_mask>{VISIBILITY}</visibility_mask>
          </camera>
        </sensor>
      </link>
    </model>
"""


def world() -> str:
    """Return the complete world file."""
    box = f"<box><size>{numbers(*(2 * np.array(REFERENCE_LAYOUT.table_half_size)))}</size></box>"
    plane = "<plane><normal>0 0 1</normal><size>6 6</size></plane>"
    table = static_model("table", REFERENCE_LAYOUT.table_center, box, TABLE_RGBA[:3], 1.0)
    floor = static_model("floor", FLOOR["pos"], plane, FLOOR["rgba"][:3], 1.0)
    background = linear(FLOOR["rgba"][:3])
    head = HEAD.format(world=WORLD, ambient=AMBIENT, key=KEY_INTENSITY, falloff=KEY_FALLOFF, background=background)
    return head + floor + table + "".join(objects()) + front_camera() + TAIL


if __name__ == "__main__":
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(world(), encoding="utf-8")
    print(FILE)
