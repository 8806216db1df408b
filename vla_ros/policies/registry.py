"""Finds the policy for a name: a folder, a policy file, an address, or a user's class.

======================  ================================================================================
name                    policy
======================  ================================================================================
`checkpoints/pick`      a folder; its files determine its kind
`pick`                  a shipped folder of `checkpoints/`, or a file of `config/policies/`
`my_policy.yaml`        a policy file: `kind`, and the lines of that kind
`openpi://host:port`    a server; `openpis://` with TLS
`module:Class`          a class of an installed package
`name`                  an entry point of the group `vla_ros.policies`
======================  ================================================================================
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from vla_ros.errors import CheckpointError, ContractError
from vla_ros.paths import expanded, share_file, share_roots
from vla_ros.policies.execution.settings import ExecutionSettings, read_execution
from vla_ros.policies.protocol import Policy
from vla_ros.robot.contract import RobotContract
from vla_ros.yaml_files import read_yaml

GROUP = "vla_ros.policies"
"""Entry point group for policies of other packages; each entry maps a name to `module:Class`."""

SHIPPED = {"pick": "checkpoints/pick", "tabletop": "checkpoints/tabletop"}
"""Shipped policy by simulated world."""

POLICY_FILES = Path("config/policies")
_CLASS = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_LARGEST_CONFIG = 1 << 20

SERVE_IT = (
    "serve it with its own software by openpi's protocol, and name the address: --policy openpi://host:port, or a "
    "policy file (docs/policies.md)"
)
FOREIGN_FOLDERS = {
    "LeRobot": "load it in a class of your own (pip install lerobot, --policy module:Class), or " + SERVE_IT,
    "Transformers": "load it in a class of your own (make setup EXTRAS=models, --policy module:Class), or " + SERVE_IT,
    "openpi": "run 'uv run scripts/serve_policy.py policy:checkpoint --policy.dir=<folder>' of openpi, and name its "
    "address in a policy file (docs/policies.md)",
}
"""Advice by kind of a checkpoint folder that is recognized but not loaded here."""


@dataclass(frozen=True)
class PolicySource:
    """A policy that was found but not yet loaded.

    Attributes:
        kind: `checkpoint`, `openpi`, `class`, or the name of an entry point.
        place: Folder, address or `module:Class`.
        options: Further lines of its file.
        execution: Execution of its chunks, from its file.
    """

    kind: str
    place: str
    options: Mapping[str, Any] = field(default_factory=dict)
    execution: ExecutionSettings = field(default_factory=ExecutionSettings)

    def load(self, contract: RobotContract, device: str, precision: str) -> Policy:
        """Load the policy for a robot, resampled to the contract's action space where they differ."""
        policy = LOADERS.get(self.kind, _load_class)(self, contract, device, precision)
        if policy.specification == contract.action:
            return policy
        from vla_ros.policies.conversion import ResampledPolicy

        return ResampledPolicy(policy, contract)


def find_policy(name: str) -> PolicySource:
    """Return the policy for a name, as listed in the module. Nothing is loaded, and no server is contacted.

    Raises:
        CheckpointError: when there is none; it lists the available policies and what to do.
    """
    if scheme := _SCHEME.match(name):
        return _of_address(name, scheme[1])
    if _CLASS.fullmatch(name) and not expanded(name).exists():
        return PolicySource("class", name)
    if name.endswith((".yaml", ".yml")):
        return read_policy_file(_existing(name, [Path(name), POLICY_FILES / name]))
    if (folder := _first_existing([Path(name), Path("checkpoints") / name])) is not None:
        return _of_folder(folder)
    if name and (file := _first_existing([POLICY_FILES / f"{name}.yaml"])) is not None:
        return read_policy_file(file)
    for entry in entry_points(group=GROUP):
        if entry.name == name:
            return PolicySource(name, entry.value)
    raise CheckpointError(
        f"no checkpoint '{name}': looked for {name} and checkpoints/{name}; train one with 'vla-ros train' or use one "
        f"of {sorted(SHIPPED.values())}. {what_there_is()}"
    )


def what_there_is() -> str:
    """Return a sentence that lists the available policies."""
    files = sorted({file.stem for root in share_roots() for file in (root / POLICY_FILES).glob("*.yaml")})
    installed = sorted(entry.name for entry in entry_points(group=GROUP))
    return (
        f"Policy files: {files}; of installed packages: {installed or 'none'}; or openpi://host:port, "
        "openpis://host:port, module:Class of an installed package (docs/policies.md)"
    )


def read_policy_file(path: Path) -> PolicySource:
    """Return the policy that a YAML file describes.

    Raises:
        CheckpointError: when it cannot be read, or a line is missing, unknown or invalid.
    """
    try:
        values = read_yaml(path, "policy file")
        if not isinstance(values, dict):
            raise ContractError(f"expected lines, at least kind, got a {type(values).__name__}")
        return replace(_of_file(_rest(values, "execution"), path), execution=read_execution(values.get("execution")))
    except OSError as error:
        raise CheckpointError(f"policy file {path}: {error.strerror}") from error
    except (ContractError, CheckpointError) as error:
        raise CheckpointError(f"policy file {path.name}: {error}") from error


def _of_file(values: dict[str, Any], path: Path) -> PolicySource:
    from vla_ros.policies.remote.features import check_lines

    kind = values.get("kind")
    if kind == "checkpoint":
        check_lines(values, "kind checkpoint", ("kind", "folder"), ("device", "precision"))
        beside = path.parent / str(values["folder"])
        folder = beside if beside.is_dir() else _existing(str(values["folder"]), [Path(str(values["folder"]))])
        return PolicySource(_of_folder(folder).kind, str(folder), _rest(values, "kind", "folder"))
    if kind == "openpi":
        from vla_ros.policies.remote.settings import read_settings

        read_settings(values)  # reports faults before anything starts
        return PolicySource("openpi", str(values["address"]), values)
    if kind == "class":
        check_lines(values, "kind class", ("kind", "class"), ("options",))
        if not _CLASS.fullmatch(str(values["class"])):
            raise ContractError(f"class is {values['class']!r}, expected module:Class")
        return PolicySource("class", str(values["class"]), _options(values))
    for entry in entry_points(group=GROUP):
        if entry.name == kind:
            check_lines(values, f"kind {kind}", ("kind",), ("options",))
            return PolicySource(kind, entry.value, _options(values))
    installed = sorted(entry.name for entry in entry_points(group=GROUP))
    raise ContractError(
        f"kind is {kind!r}, expected checkpoint, openpi, class, or one of an installed package "
        f"({installed or 'none'}): pip install the package that has the entry point '{kind}' of the group {GROUP}"
    )


def _rest(values: Mapping[str, Any], *without: str) -> dict[str, Any]:
    return {line: value for line, value in values.items() if line not in without}


def _options(values: Mapping[str, Any]) -> dict[str, Any]:
    options = values.get("options", {})
    if not isinstance(options, dict) or not all(isinstance(name, str) for name in options):
        raise ContractError(f"options is {str(options)[:80]!r}, expected names and values for the class")
    return options


def _of_address(name: str, scheme: str) -> PolicySource:
    from vla_ros.policies.remote.address import WEBSOCKET_SCHEMES, parse_address

    if scheme not in WEBSOCKET_SCHEMES:
        raise CheckpointError(
            f"policy '{name}': '{scheme}' is no protocol that is spoken here; expected {', '.join(WEBSOCKET_SCHEMES)}, "
            f"or an entry point of the group {GROUP} (pip install the package that has it) named in a policy file. "
            f"{what_there_is()}"
        )
    return PolicySource("openpi", str(parse_address(name)))


def _of_folder(folder: Path) -> PolicySource:
    """Return the policy in a folder, by its files.

    Raises:
        CheckpointError: for a folder of another kind, with advice.
    """
    if not folder.is_dir():
        raise CheckpointError(f"no checkpoint '{folder}': it is a file, expected a folder or a .yaml file")
    kind, detail = _foreign_kind(folder)
    if kind and not (folder / "policy.json").exists():
        raise CheckpointError(f"'{folder}' is a checkpoint of {kind}{detail}: {FOREIGN_FOLDERS[kind]}")
    return PolicySource("checkpoint", str(folder))


def _foreign_kind(folder: Path) -> tuple[str, str]:
    """Return the third-party software that wrote a folder, and its model type; "" if not recognized."""
    if (folder / "params").is_dir() and (folder / "assets").is_dir():
        return "openpi", ""
    try:
        with (folder / "config.json").open(encoding="utf-8") as file:
            values = json.loads(file.read(_LARGEST_CONFIG))
    except (OSError, ValueError, RecursionError):
        return "", ""
    if not isinstance(values, dict):
        return "", ""
    for line, kind in (("type", "LeRobot"), ("model_type", "Transformers")):
        if isinstance(values.get(line), str):
            return kind, f" ({values[line][:40]})"
    return "", ""


def _first_existing(candidates: list[Path]) -> Path | None:
    for candidate in candidates:
        try:
            return share_file(candidate)
        except FileNotFoundError:
            continue
    return None


def _existing(name: str, candidates: list[Path]) -> Path:
    found = _first_existing(candidates)
    if found is None:
        looked = ", ".join(str(candidate) for candidate in candidates)
        raise CheckpointError(f"no policy '{name}': looked for {looked}. {what_there_is()}")
    return found


def _load_checkpoint(source: PolicySource, contract: RobotContract, device: str, precision: str) -> Policy:
    from vla_ros.policies.local import LocalPolicy  # imports torch, which other policies do not need

    device, precision = source.options.get("device", device), source.options.get("precision", precision)
    return LocalPolicy(Path(source.place), contract, device, precision)


def _load_openpi(source: PolicySource, contract: RobotContract, device: str, precision: str) -> Policy:
    from vla_ros.policies.remote.openpi import OpenpiPolicy
    from vla_ros.policies.remote.settings import read_settings

    del device, precision  # decided by the server
    return OpenpiPolicy(read_settings(source.options or {"kind": "openpi", "address": source.place}), contract)


def _load_class(source: PolicySource, contract: RobotContract, device: str, precision: str) -> Policy:
    """Return an instance of another package's class, created from the contract and the options that it accepts."""
    from vla_ros.policies.compatibility import compare
    from vla_ros.policies.needs import needs_of_policy

    module, _, name = source.place.partition(":")
    try:
        loaded = import_module(module)
    except ModuleNotFoundError as error:
        raise CheckpointError(
            f"policy {source.place}: there is no module '{error.name}'; pip install the package that has it. "
            f"{what_there_is()}"
        ) from error
    found: Any = getattr(loaded, name, None)
    if not inspect.isclass(found) or not all(callable(getattr(found, method, None)) for method in ("reset", "predict")):
        raise CheckpointError(
            f"policy {source.place}: expected a class with the methods reset and predict (vla_ros/policies/protocol.py)"
        )
    takes = inspect.signature(found).parameters
    offered = {"device": device, "precision": precision}
    arguments = {line: value for line, value in offered.items() if line in takes} | dict(source.options)
    try:
        make: Callable[..., Any] = found
        policy = make(contract, **arguments)
    except TypeError as error:
        raise CheckpointError(f"policy {source.place}: {name}(contract, {', '.join(arguments)}): {error}") from error
    if not isinstance(policy, Policy):
        missing = [line for line in ("name", "specification", "device", "image_sizes") if not hasattr(policy, line)]
        raise CheckpointError(f"policy {source.place}: it has no {', '.join(missing)} (vla_ros/policies/protocol.py)")
    compare(needs_of_policy(policy, source.place), contract).require()
    return policy


LOADERS: dict[str, Callable[[PolicySource, RobotContract, str, str], Policy]] = {
    "checkpoint": _load_checkpoint,
    "openpi": _load_openpi,
}
"""Loaders by kind; every other kind is a class."""
