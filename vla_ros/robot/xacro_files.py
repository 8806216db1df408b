"""Expands a xacro file into a plain URDF file, as `ros2 run xacro xacro` does."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from vla_ros.errors import ContractError
from vla_ros.paths import runtime_folder
from vla_ros.robot.mesh_paths import PACKAGE, mesh_path

XACRO = ".xacro"
ASSIGN = ":="
PREFIXES = "AMENT_PREFIX_PATH"
QUOTES = {'"': "&quot;"}

_environment = threading.Lock()


def split_arguments(line: str, where: str) -> tuple[str, dict[str, str]]:
    """Return the file of a contract's line `urdf`, and what it sets: "arm.urdf.xacro dof:=7" is a file and dof.

    Raises:
        ContractError: when words follow that set nothing, or the file is no xacro.
    """
    name, *words = line.split() if ASSIGN in line else [line]
    values = dict(word.split(ASSIGN, 1) for word in words if ASSIGN in word)
    if len(values) != len(words):
        raise ContractError(f"{where}: got '{line}', expected <file>{XACRO} and then name:=value, each name once")
    if values and not name.endswith(XACRO):
        raise ContractError(f"{where}: only a {XACRO} file takes arguments, got '{line}'")
    return name, values


def expand_xacro(source: Path, arguments: Mapping[str, str]) -> str:
    """Return the URDF text that a xacro file makes.

    Raises:
        ContractError: when xacro is missing or refuses the file.
    """
    try:
        import xacro  # type: ignore[import-untyped]
    except ImportError as error:
        raise ContractError(
            f"{source.name} needs xacro: pip install xacro, or apt install ros-$ROS_DISTRO-xacro"
        ) from error
    try:
        with _packages_near(source) as settle:
            return settle(str(xacro.process_file(str(source), mappings=dict(arguments)).toxml()))
    except Exception as error:  # xacro's errors have no common root
        raise ContractError(f"{source}: xacro cannot expand it: {' '.join(str(error).split())}") from error


@contextlib.contextmanager
def _packages_near(source: Path) -> Iterator[Callable[[str], str]]:
    """Let `$(find package)` also find the packages that a file lies in or beside, as in a checkout that is not built.

    What is sourced comes first. Yields what puts the packages' own folders into an expanded text, in place of the
    temporary ones that xacro has written there (`file:///$(find arm)/link.stl`).
    """
    own = [folder for folder in source.parents if _package_name(folder)]
    beside = [folder for one in own for folder in sorted(one.parent.iterdir())]
    packages = {name: folder for folder in reversed([*own, *beside]) if (name := _package_name(folder))}
    if not packages:
        yield str
        return
    with tempfile.TemporaryDirectory() as prefix, _environment:
        index = Path(prefix, "share", "ament_index", "resource_index", "packages")
        index.mkdir(parents=True)
        for name, folder in packages.items():
            (index / name).touch()
            Path(prefix, "share", name).symlink_to(folder)
        before = os.environ.get(PREFIXES)
        os.environ[PREFIXES] = os.pathsep.join(filter(None, (before, prefix)))
        found = re.compile(rf"{re.escape(str(Path(prefix, 'share')))}/({'|'.join(packages)})(?![A-Za-z0-9_-])")
        try:
            yield lambda text: found.sub(lambda match: escape(str(packages[match[1]]), QUOTES), text)
        finally:
            os.environ.pop(PREFIXES, None) if before is None else os.environ.update({PREFIXES: before})


def _package_name(folder: Path) -> str:
    """Return the name of the ROS package in a folder, "" where there is none."""
    try:
        name = ElementTree.parse(folder / "package.xml").getroot().findtext("name") or ""
    except (OSError, ElementTree.ParseError):
        return ""
    return name if re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", name) else ""


def expanded_urdf(source: Path, arguments: Mapping[str, str]) -> Path:
    """Return a file that holds what a xacro file makes; one of the same content is used again.

    Its meshes have absolute paths: it does not lie where the xacro file does.

    Raises:
        ContractError: see `expand_xacro`; also when the file cannot be written.
    """
    root = ElementTree.fromstring(expand_xacro(source, arguments))
    for mesh in root.iter("mesh"):
        name = mesh.get("filename", "")
        if name.startswith(PACKAGE):
            _settle(mesh, name, source)
        elif name and "://" not in name:
            mesh.set("filename", str((source.parent / name).resolve()))
    text = ElementTree.tostring(root, encoding="unicode")
    name = f"{source.name.removesuffix(XACRO).removesuffix('.urdf')}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    try:
        folder = runtime_folder() / "descriptions"
        folder.mkdir(mode=0o700, exist_ok=True)
        path = folder / f"{name}.urdf"
        if not (path.is_file() and path.read_text(encoding="utf-8") == text):
            with tempfile.NamedTemporaryFile("w", dir=folder, encoding="utf-8", delete=False) as file:
                file.write(text)
            Path(file.name).replace(path)
    except OSError as error:
        raise ContractError(f"{source.name}: what it expands to cannot be kept: {error}") from error
    return path


def _settle(mesh: ElementTree.Element, name: str, source: Path) -> None:
    """Replace the `package://` URI of a mesh by its path; one that cannot be resolved stays, and loading it fails."""
    try:
        mesh.set("filename", str(mesh_path(name, source)))
    except ContractError:
        return
