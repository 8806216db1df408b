"""What pyproject.toml cannot say: the version of package.xml, and the files that go to share/vla_ros."""

from pathlib import Path
from xml.etree import ElementTree

from setuptools import setup

HERE = Path(__file__).resolve().parent
SHARED = ("checkpoints", "config", "launch", "rviz", "urdf", "worlds")


def shared_files() -> list[tuple[str, list[str]]]:
    """Return the files that go to share/vla_ros, as the ROS 2 package installs them, by folder."""
    files = [
        file.relative_to(HERE) for folder in SHARED for file in sorted((HERE / folder).rglob("*")) if file.is_file()
    ]
    folders = sorted({file.parent for file in files})
    return [(f"share/vla_ros/{folder}", [str(file) for file in files if file.parent == folder]) for folder in folders]


setup(version=ElementTree.parse(HERE / "package.xml").getroot().findtext("version"), data_files=shared_files())
