"""The Gazebo world against the compiled MuJoCo cell, its names against what Gazebo has, its scenes and its judge."""

import shutil
import subprocess
from xml.etree import ElementTree

import mujoco
import numpy as np
import pytest
import write_world
import yaml
from scipy.spatial.transform import Rotation

from vla_ros.bringup.launch_files import bridge_rules, controller_parameters, robot_description, world_name
from vla_ros.envs.gazebo.scene import PARKED, WORLD, GazeboSuccessChecker, horizontal_fov, lay_out
from vla_ros.envs.registry import make_env
from vla_ros.envs.tabletop.objects import COLOURS, SHAPES
from vla_ros.envs.tabletop.tasks import LIFT_HEIGHT
from vla_ros.errors import InstructionError, SimulationError
from vla_ros.paths import share_file
from vla_ros.robot.contract import load_contract

FILE = share_file(f"worlds/{WORLD}.sdf")
SDF = ElementTree.parse(FILE).getroot()
MODELS = {model.get("name"): model for model in SDF.iter("model")}
# gz-sim 8 (Harmonic), src/systems/*: library and class of every system that this package names.
SYSTEMS = {
    "gz-sim-physics-system": "gz::sim::systems::Physics",
    "gz-sim-user-commands-system": "gz::sim::systems::UserCommands",
    "gz-sim-scene-broadcaster-system": "gz::sim::systems::SceneBroadcaster",
    "gz-sim-contact-system": "gz::sim::systems::Contact",
    "gz-sim-sensors-system": "gz::sim::systems::Sensors",
    "gz-sim-hydrodynamics-system": "gz::sim::systems::Hydrodynamics",
    "gz-sim-pose-publisher-system": "gz::sim::systems::PosePublisher",
    "gz-sim-joint-trajectory-controller-system": "gz::sim::systems::JointTrajectoryController",
    "gz-sim-joint-state-publisher-system": "gz::sim::systems::JointStatePublisher",
    "gz_ros2_control-system": "gz_ros2_control::GazeboSimROS2ControlPlugin",
}
# ros_gz_bridge for Jazzy, README: pairs of types that it converts.
PAIRS = {
    ("rosgraph_msgs/msg/Clock", "gz.msgs.Clock"),
    ("sensor_msgs/msg/Image", "gz.msgs.Image"),
    ("sensor_msgs/msg/CameraInfo", "gz.msgs.CameraInfo"),
    ("sensor_msgs/msg/JointState", "gz.msgs.Model"),
    ("trajectory_msgs/msg/JointTrajectory", "gz.msgs.JointTrajectory"),
    ("tf2_msgs/msg/TFMessage", "gz.msgs.Pose_V"),
    ("ros_gz_interfaces/msg/Contacts", "gz.msgs.Contacts"),
}


def numbers(element, path):
    return np.array([float(value) for value in element.findtext(path).split()])


@pytest.fixture(scope="module")
def cell():
    cell = make_env("pick", load_contract("panda"))
    yield cell
    cell.close()


def test_table_and_floor_are_those_of_the_cell(cell):
    mujoco.mj_forward(cell.model, cell.data)
    table = cell.model.geom("table")
    np.testing.assert_allclose(numbers(MODELS["table"], "pose")[:3], table.pos, atol=1e-9)
    np.testing.assert_allclose(numbers(MODELS["table"], ".//collision/geometry/box/size"), 2 * table.size, atol=1e-9)
    np.testing.assert_allclose(numbers(MODELS["floor"], "pose")[:3], cell.model.geom("floor").pos, atol=1e-9)


def test_objects_are_those_of_the_cell(cell):
    for colour, rgb in COLOURS.items():
        for shape in SHAPES:
            model, geom = MODELS[f"{colour}_{shape}"], cell.model.geom(f"object_0_{shape}")
            assert float(model.findtext("link/inertial/mass")) == pytest.approx(cell.model.body("object_0").mass[0])
            geometry = model.find("link/collision/geometry")
            if shape == "cube":
                np.testing.assert_allclose(numbers(geometry, "box/size"), 2 * geom.size, atol=1e-9)
            elif shape == "cylinder":
                assert float(geometry.findtext("cylinder/radius")) == pytest.approx(geom.size[0])
                assert float(geometry.findtext("cylinder/length")) == pytest.approx(2 * geom.size[1])
            else:
                assert float(geometry.findtext("sphere/radius")) == pytest.approx(geom.size[0])
            np.testing.assert_allclose(shown(numbers(model, ".//diffuse")[:3]), rgb, atol=1e-6)


def shown(linear):
    """What a picture encoded as sRGB (IEC 61966-2-1) holds for linear light, 0 to 1."""
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1.0 / 2.4) - 0.055)


def test_the_arm_is_painted_as_in_the_cell(cell):
    description = ElementTree.fromstring(robot_description(load_contract("panda"), "gz"))
    plain = ElementTree.fromstring(robot_description(load_contract("panda")))
    seen = 0
    for root, decode in ((description, shown), (plain, np.asarray)):
        paint = {
            material.get("name"): decode(np.array([float(v) for v in material.find("color").get("rgba").split()[:3]]))
            for material in root.findall("material")
        }
        for link in root.findall("link"):
            for material in link.findall("visual/material"):
                body = cell.model.body(link.get("name"))
                for geom in range(body.geomadr[0], body.geomadr[0] + body.geomnum[0]):
                    np.testing.assert_allclose(paint[material.get("name")], cell.model.geom_rgba[geom][:3], atol=1e-3)
                    seen += 1
    assert seen >= 2 * 11


def test_the_lamp_hangs_where_the_cells_does():
    cell = make_env(
        "pick", load_contract("panda")
    )  # its reset moves the lamp a little: the model as it was compiled counts
    lamp = SDF.find("world/light")
    assert lamp.get("type") == "spot"  # MuJoCo's lamps are spots, unless they say otherwise
    np.testing.assert_allclose(numbers(lamp, "pose")[:3], cell._light_pos[0])
    direction = numbers(lamp, "direction")
    np.testing.assert_allclose(direction / np.linalg.norm(direction), cell.model.light_dir[0], atol=1e-6)
    cell.close()


def test_the_world_is_what_the_script_writes():
    for file in (write_world.FILE, FILE):  # where the package is installed, the one in use is a copy
        assert file.read_text(encoding="utf-8") == write_world.world(), "python scripts/write_world.py"


def gazebo_axes(rpy):
    """MuJoCo's camera axes (right, up, back) of a Gazebo camera, which looks along its own x with z up."""
    forward, left, up = Rotation.from_euler("xyz", rpy).as_matrix().T
    return np.stack([-left, up, -forward], axis=1)


def camera_info(sensor):
    image = sensor.find("camera/image")
    return int(image.findtext("width")), int(image.findtext("height")), float(sensor.findtext("camera/horizontal_fov"))


def test_the_front_camera_sees_what_the_cells_does():
    cell = make_env(
        "pick", load_contract("panda")
    )  # its reset moves cameras a little: the model as it was compiled counts
    pose = numbers(MODELS["camera_front"], "pose")
    np.testing.assert_allclose(pose[:3], cell._camera_pos[cell.model.camera("front").id], atol=1e-6)
    w, x, y, z = cell._camera_quat[cell.model.camera("front").id]
    np.testing.assert_allclose(gazebo_axes(pose[3:]), Rotation.from_quat([x, y, z, w]).as_matrix(), atol=1e-6)
    sensor = MODELS["camera_front"].find("link/sensor")
    assert sensor.findtext("camera/optical_frame_id") == cell.contract.camera("front").frame
    width, height, fov = camera_info(sensor)
    assert cell.camera_matrix("front")[0, 0] == pytest.approx(0.5 * width / np.tan(fov / 2.0), rel=1e-6)
    assert (height, width) == cell._sizes["front"]


@pytest.mark.parametrize("robot", ["panda", "fr3", "ur5e"])
def test_the_wrist_camera_sees_what_the_cells_does(robot):
    cell = make_env("pick", load_contract(robot))
    description = ElementTree.fromstring(robot_description(load_contract(robot), "gz"))
    joint = next(j for j in description.findall("joint") if j.get("name") == "camera_wrist_joint")
    origin = joint.find("origin")
    position = np.array([float(v) for v in origin.get("xyz").split()])
    rpy = [float(v) for v in origin.get("rpy").split()]
    camera = cell.model.camera("wrist").id
    np.testing.assert_allclose(position, cell._camera_pos[camera], atol=1e-9)
    w, x, y, z = cell._camera_quat[camera]
    np.testing.assert_allclose(gazebo_axes(rpy), Rotation.from_quat([x, y, z, w]).as_matrix(), atol=1e-9)
    sensor = next(s for s in description.iter("sensor") if s.get("type") == "camera")
    assert sensor.findtext("camera/optical_frame_id") == cell.contract.camera("wrist").frame
    width, height, fov = camera_info(sensor)
    assert cell.camera_matrix("wrist")[0, 0] == pytest.approx(0.5 * width / np.tan(fov / 2.0), rel=1e-9)
    assert (height, width) == cell._sizes["wrist"]


def test_horizontal_and_vertical_opening_are_of_one_pinhole():
    assert horizontal_fov(90.0, 100, 100) == pytest.approx(np.pi / 2)
    assert np.tan(horizontal_fov(35.0, 320, 240) / 2) / np.tan(np.radians(17.5)) == pytest.approx(320 / 240)


def named_plugins():
    yield from SDF.iter("plugin")
    for robot in ("panda", "fr3", "ur5e", "so101"):
        for hardware in ("gz", "gz_ros2_control"):
            text = robot_description(load_contract(robot), hardware, "/x.yaml")
            yield from (p for g in ElementTree.fromstring(text).findall("gazebo") for p in g.findall("plugin"))


def test_plugins_are_named_as_gazebo_names_them():
    plugins = list(named_plugins())
    assert len(plugins) > 10
    for plugin in plugins:
        assert SYSTEMS[plugin.get("filename")] == plugin.get("name")


def test_the_newest_sdf_that_every_gazebo_loads():
    assert SDF.get("version") in ("1.9", "1.10", "1.11")
    assert SDF.find("world/plugin[@filename='gz-sim-sensors-system']/render_engine").text == "ogre2"
    assert world_name(FILE) == WORLD


@pytest.mark.skipif(shutil.which("ign") is None, reason="no SDFormat parser here: apt install ignition-tools")
def test_an_sdformat_parser_takes_the_world():
    done = subprocess.run(["ign", "sdf", "-k", str(FILE)], capture_output=True, text=True, timeout=60, check=False)
    assert "Valid." in done.stdout
    assert "Error" not in done.stdout + done.stderr
    broken = FILE.read_text().replace('<link name="link">', '<link name="">', 1)
    done = subprocess.run(
        ["ign", "sdf", "-k", "/dev/stdin"], input=broken, capture_output=True, text=True, timeout=60, check=False
    )
    assert "Valid." not in done.stdout or "rror" in done.stdout + done.stderr


def topics_in_gazebo():
    """Topics that the world and a robot speak or hear in Gazebo."""
    text = robot_description(load_contract("panda"), "gz")
    own = [
        e.text
        for root in (SDF, ElementTree.fromstring(text))
        for tag in ("topic", "camera_info_topic")
        for e in root.iter(tag)
    ]
    return {*own, "/clock"}


def test_the_bridge_carries_poses_that_have_names():
    # ros_gz_bridge takes a transform's child frame from a header that only the PosePublisher system fills.
    for colour in COLOURS:
        for shape in SHAPES:
            plugin = MODELS[f"{colour}_{shape}"].find("plugin[@name='gz::sim::systems::PosePublisher']")
            assert (plugin.findtext("publish_model_pose"), plugin.findtext("use_pose_vector_msg")) == ("true", "true")
            assert plugin.findtext("publish_link_pose") == "false"
            assert plugin.findtext("topic") == "/scene/poses"
    rule = next(rule for rule in bridge_rules(("common",)) if rule["gz_type_name"] == "gz.msgs.Pose_V")
    assert rule["gz_topic_name"] == rule["ros_topic_name"] == "/scene/poses"
    assert rule["publisher_queue"] >= len(PARKED)


def test_parked_objects_are_out_of_the_front_cameras_picture():
    pose = numbers(MODELS["camera_front"], "pose")
    width, height, fov = camera_info(MODELS["camera_front"].find("link/sensor"))
    for name, place in PARKED.items():
        right, up, back = gazebo_axes(pose[3:]).T @ (np.array(place) - pose[:3])
        if back < 0.0:  # before the camera
            seen = np.abs([right * height / width, up]) / -back / (np.tan(fov / 2.0) * height / width)
            assert seen.max() > 1.5, f"{name} is in the picture, or near its rim"


@pytest.mark.parametrize("robot", ["panda", "fr3", "ur5e", "so101"])
@pytest.mark.parametrize("hardware", ["gz", "gz_ros2_control"])
def test_the_robot_is_bolted_to_the_world(robot, hardware):
    contract = load_contract(robot)
    description = ElementTree.fromstring(robot_description(contract, hardware, "/x.yaml"))
    children = {joint.find("child").get("link") for joint in description.findall("joint")}
    assert {link.get("name") for link in description.findall("link")} - children == {"world"}
    joint = next(joint for joint in description.findall("joint") if joint.find("parent").get("link") == "world")
    assert (joint.get("type"), joint.find("child").get("link")) == ("fixed", contract.base_frame)
    assert ElementTree.fromstring(robot_description(contract)).find("link[@name='world']") is None


def test_the_bridge_carries_what_gazebo_has_and_the_contract_names():
    rules = bridge_rules(("common", "controllers", "images"))
    assert {rule["gz_topic_name"] for rule in rules} == topics_in_gazebo()
    assert {(rule["ros_type_name"], rule["gz_type_name"]) for rule in rules} <= PAIRS
    carried = {rule["ros_topic_name"]: rule["direction"] for rule in rules}
    for robot in ("panda", "fr3", "ur5e"):
        contract = load_contract(robot)
        for camera in contract.cameras:
            assert carried[camera.topic] == carried[camera.info_topic] == "GZ_TO_ROS"
        assert carried[contract.controllers.joint_states_topic] == carried["/clock"] == "GZ_TO_ROS"
        assert carried[contract.controllers.arm_topic] == carried[contract.controllers.gripper_topic] == "ROS_TO_GZ"


@pytest.mark.parametrize("robot", ["panda", "fr3", "ur5e", "so101"])
def test_the_controllers_have_the_contracts_joints_and_time_out(robot):
    contract = load_contract(robot)
    parameters = controller_parameters(contract, use_sim_time=True)
    arm = parameters["arm_controller"]["ros__parameters"]
    assert arm["joints"] == list(contract.joints.names)
    assert parameters["gripper_controller"]["ros__parameters"]["joints"] == list(contract.gripper.names)
    for name in ("arm_controller", "gripper_controller"):
        values = parameters[name]["ros__parameters"]
        # cmd_timeout of 0 is never, and one that is not above goal_time is ignored.
        assert values["cmd_timeout"] == contract.controllers.command_timeout > values["constraints"]["goal_time"]
        assert values["allow_nonzero_velocity_at_trajectory_end"] is True
        assert values["use_sim_time"] is True


def test_the_controllers_as_they_stand_are_those_of_the_panda_on_a_robot():
    shipped = yaml.safe_load(share_file("config/controllers.yaml").read_text(encoding="utf-8"))
    assert shipped == controller_parameters(load_contract("panda"), use_sim_time=False)


@pytest.mark.parametrize("robot", ["panda", "fr3", "ur5e", "so101"])
def test_in_a_namespace_the_controllers_and_their_manager_are_named_in_full(robot):
    contract = load_contract(robot)
    parameters = controller_parameters(contract, use_sim_time=True, namespace="left")
    bare = controller_parameters(contract, use_sim_time=True)
    assert parameters == {f"/left/{name}": values for name, values in bare.items()}
    for namespace, expected in (("left", "/left"), ("", None)):
        description = ElementTree.fromstring(robot_description(contract, "gz_ros2_control", "/x.yaml", namespace))
        assert description.find("gazebo/plugin").findtext("ros/namespace") == expected


@pytest.mark.parametrize("seed", range(5))
def test_a_seed_is_the_same_scene_as_in_the_cell(cell, seed):
    scene = lay_out(seed)
    assert cell.reset(seed) == scene.instruction
    assert cell.objects == scene.objects
    for item in scene.objects:
        x, y, _, yaw = scene.poses[f"{item.colour}_{item.shape}"]
        assert (x, y) == item.position
        assert yaw == item.yaw
    assert set(scene.poses) == set(PARKED) == {f"{c}_{s}" for c in COLOURS for s in SHAPES}


def test_the_judge_wants_the_named_object_high_and_between_both_fingers():
    scene = lay_out(3, "pick up the red cube")
    judge = GazeboSuccessChecker(scene)
    rest = SHAPES["cube"].half_height
    judge.moved("red_cube", np.array([0.5, 0.0, rest]))
    assert judge.verdict(1.0).detail.startswith("holds nothing")
    judge.touched("left", "red_cube", 1.0)
    assert judge.grasped(1.0) == ""
    judge.touched("right", "red_cube", 1.0)
    assert not judge.verdict(1.1).success
    judge.moved("red_cube", np.array([0.5, 0.0, rest + LIFT_HEIGHT + 0.001]))
    assert judge.verdict(1.1).success
    assert not judge.verdict(1.3).success, "a touch of long ago holds nothing"
    other = next(item for item in scene.objects if item.name != "red cube")
    judge.follow(f"pick up the {other.name}")
    assert not judge.verdict(1.1).success
    with pytest.raises(InstructionError):
        judge.follow("pick up the purple cone")
    with pytest.raises(SimulationError):
        lay_out(0, "do something")


def test_objects_must_lie_where_they_were_put():
    scene = lay_out(3)
    judge = GazeboSuccessChecker(scene)
    assert not judge.in_place(0.01)
    for item in scene.objects:
        judge.moved(f"{item.colour}_{item.shape}", np.array([*item.position, SHAPES[item.shape].half_height]))
    assert judge.in_place(0.01)
    judge.moved(f"{item.colour}_{item.shape}", np.array([*item.position, np.nan]))
    assert not judge.in_place(0.01)
