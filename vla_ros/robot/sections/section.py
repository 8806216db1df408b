"""Typed and checked access to one section of a robot contract's YAML."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any, TypeVar

import numpy as np

from vla_ros.errors import ContractError
from vla_ros.types import FloatArray, frozen_array

Choice = TypeVar("Choice", bound=Enum)


class Section:
    """A YAML mapping with its location in the file, for error messages.

    Every reader raises `ContractError` when the field is missing or of the wrong type.

    Attributes:
        values: The fields.
        where: Location, for example "arm.yaml.joints".
    """

    def __init__(self, values: Any, where: str) -> None:  # noqa: ANN401 (whatever YAML holds)
        """Wrap the content of the section at `where`, for example "arm.yaml.joints"."""
        if not isinstance(values, Mapping):
            raise ContractError(f"{where}: expected a mapping, got {type(values).__name__}")
        self.values, self.where = values, where

    def only(self, *names: str) -> Section:
        """Reject unknown fields; return self."""
        unknown = set(self.values) - set(names)
        if unknown:
            raise ContractError(f"{self.where}: unknown lines {sorted(unknown)}; expected {sorted(names)}")
        return self

    def get(self, name: str) -> Any:  # noqa: ANN401
        """Return the value of a field, of any type."""
        if name not in self.values or self.values[name] is None:
            raise ContractError(f"{self.where}: '{name}' is missing")
        return self.values[name]

    def section(self, name: str) -> Section:
        """Return a subsection."""
        return Section(self.get(name), f"{self.where}.{name}")

    def text(self, name: str) -> str:
        """Return a non-empty string."""
        value = self.get(name)
        if not isinstance(value, str) or not value:
            raise ContractError(f"{self.where}.{name}: expected a text, got {value!r}")
        return value

    def choice(self, name: str, kind: type[Choice]) -> Choice:
        """Return a member of an enumeration by value."""
        value = self.text(name)
        try:
            return kind(value)
        except ValueError as error:
            raise ContractError(
                f"{self.where}.{name}: expected one of {[str(c.value) for c in kind]}, got {value!r}"
            ) from error

    def number(self, name: str, *, positive: bool = True) -> float:
        """Return a finite number, above 0 unless `positive` is False."""
        value = self.get(name)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not np.isfinite(value):
            raise ContractError(f"{self.where}.{name}: expected a finite number, got {value!r}")
        if positive and not value > 0.0:
            raise ContractError(f"{self.where}.{name}: expected more than 0, got {value}")
        return float(value)

    def count(self, name: str) -> int:
        """Return a positive integer."""
        value = self.number(name)
        if not value.is_integer():
            raise ContractError(f"{self.where}.{name}: expected a whole number, got {value}")
        return int(value)

    def vector(self, name: str, length: int, *, positive: bool = False) -> FloatArray:
        """Return finite numbers (length,), read-only; all above 0 if `positive`."""
        value = self.get(name)
        try:
            array = np.asarray(value, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise ContractError(f"{self.where}.{name}: expected {length} numbers, got {value!r}") from error
        if array.shape != (length,):
            raise ContractError(f"{self.where}.{name}: expected {length} numbers, got shape {array.shape}")
        if not np.isfinite(array).all() or (positive and not (array > 0.0).all()):
            raise ContractError(f"{self.where}.{name}: expected finite{' positive' if positive else ''} numbers")
        return frozen_array(array)

    def numbers(self, name: str) -> dict[str, float]:
        """Return a subsection of finite numbers by name; empty where it is missing."""
        if self.values.get(name) is None:
            return {}
        below = self.section(name)
        return {_name(key, below.where): below.number(key, positive=False) for key in below.values}

    def fraction(self, name: str) -> float:
        """Return a number from 0 to 1."""
        value = self.number(name, positive=False)
        if not 0.0 <= value <= 1.0:
            raise ContractError(f"{self.where}.{name}: expected 0 to 1, got {value}")
        return value

    def flag(self, name: str) -> bool:
        """Return a boolean."""
        value = self.get(name)
        if not isinstance(value, bool):
            raise ContractError(f"{self.where}.{name}: expected true or false, got {value!r}")
        return value

    def names(self, name: str) -> tuple[str, ...]:
        """Return a non-empty list of unique names."""
        value = self.get(name)
        if not isinstance(value, list) or not value or not all(isinstance(v, str) and v for v in value):
            raise ContractError(f"{self.where}.{name}: expected a list of names, got {value!r}")
        if len(set(value)) != len(value):
            raise ContractError(f"{self.where}.{name}: a name stands twice in {value}")
        return tuple(value)


def _name(key: Any, where: str) -> str:  # noqa: ANN401
    if not isinstance(key, str) or not key:
        raise ContractError(f"{where}: expected names, got {key!r}")
    return key
