"""Installs the Python half of the package with pip, for machines that train or evaluate without ROS 2.

The ROS 2 package is built by CMakeLists.txt. The version stands in package.xml, the dependencies in requirements/.
"""

from pathlib import Path
from xml.etree import ElementTree

from setuptools import find_packages, setup

HERE = Path(__file__).resolve().parent
SHARED = ("checkpoints", "config", "launch", "rviz", "urdf", "worlds")


def requirements(name: str) -> list[str]:
    """Return the pins of requirements/<name>.txt."""
    lines = (HERE / "requirements" / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in map(str.strip, lines) if line and not line.startswith("#")]


def shared_files() -> list[tuple[str, list[str]]]:
    """Return the files that go to share/vla_ros, as the ROS 2 package installs them, by folder."""
    files = [
        file.relative_to(HERE) for folder in SHARED for file in sorted((HERE / folder).rglob("*")) if file.is_file()
    ]
    folders = sorted({file.parent for file in files})
    return [(f"share/vla_ros/{folder}", [str(file) for file in files if file.parent == folder]) for folder in folders]


package = ElementTree.parse(HERE / "package.xml").getroot()

setup(
    name="vla_ros",
    version=package.findtext("version"),
    description=package.findtext("description"),
    license="Apache-2.0",
    python_requires=">=3.10,<3.14",
    packages=find_packages(include=["vla_ros", "vla_ros.*"]),
    data_files=shared_files(),
    install_requires=[*requirements("core"), *requirements("policy")],
    extras_require={
        name: requirements(name) for name in ("data", "learning", "models", "words", "ros", "build", "dev")
    },
    entry_points={"console_scripts": ["vla-ros = vla_ros.cli.main:main"]},
    zip_safe=False,
)
