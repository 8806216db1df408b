"""The names that `vla_ros` itself offers: each is there, loads on first use, and brings nothing heavy before."""

import subprocess
import sys
from pathlib import Path

import pytest

import vla_ros

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", vla_ros.__all__)
def test_public_name_is_documented(name):
    assert getattr(vla_ros, name).__doc__
    assert name in dir(vla_ros)


def test_import_is_lean():
    program = "import sys, vla_ros; print(sorted({'torch', 'numpy', 'pinocchio', 'rclpy'} & set(sys.modules)))"
    ended = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"


def test_unknown_name_lists_public_ones():
    with pytest.raises(AttributeError, match=r"'load_polcy'.*load_policy"):
        vla_ros.load_polcy  # noqa: B018


def test_type_information_ships():
    assert (ROOT / "vla_ros" / "py.typed").is_file()
