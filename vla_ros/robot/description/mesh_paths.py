"""Resolution of mesh file names in a robot description: `package://`, `file://`, or relative to the description."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from vla_ros.errors import ContractError

PACKAGE, FILE = "package://", "file://"


def mesh_path(filename: str, urdf: Path) -> Path:
    """Return the file for <mesh filename="..."> in a description.

    A package is searched among the sourced ones, then among the parent folders of the description, so that a checkout
    of a vendor's repository need not be built.

    Args:
        filename: Value of the attribute.
        urdf: Absolute path of the description.

    Raises:
        ContractError: when it does not exist, listing all locations searched.
    """
    places = list(_places(filename, urdf))
    for place in places:
        if place.is_file():
            return place
    searched = ", ".join(str(place) for place in places) or "no folder: no package of that name is sourced or near"
    advice = "; source the workspace that has the package" if filename.startswith(PACKAGE) else ""
    raise ContractError(f"{urdf.name}: the mesh '{filename}' is not there (looked at: {searched}){advice}")


def with_absolute_meshes(root: ElementTree.Element, urdf: Path) -> None:
    """Replace the file name of every collision mesh of a description by its absolute path, in place.

    Raises:
        ContractError: as for `mesh_path`.
    """
    for mesh in root.iterfind("link/collision/geometry/mesh"):
        mesh.set("filename", str(mesh_path(mesh.get("filename", ""), urdf)))


def _places(filename: str, urdf: Path) -> Iterator[Path]:
    if filename.startswith(FILE):
        yield Path("/", filename.removeprefix(FILE).lstrip("/"))  # file:///$(find ...) expands to four slashes
    elif filename.startswith(PACKAGE):
        package, _, rest = filename.removeprefix(PACKAGE).partition("/")
        yield from (folder / rest for folder in dict.fromkeys(_package_folders(package, urdf)))
    else:
        yield urdf.parent / filename


def _package_folders(package: str, urdf: Path) -> Iterator[Path]:
    for prefix in filter(None, os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)):
        if (folder := Path(prefix) / "share" / package).is_dir():
            yield folder
    for entry in map(Path, filter(None, os.environ.get("ROS_PACKAGE_PATH", "").split(os.pathsep))):
        if (folder := entry if entry.name == package else entry / package).is_dir():
            yield folder
    for parent in urdf.parents:
        if parent.name == package:
            yield parent
        if (parent / package).is_dir():
            yield parent / package
