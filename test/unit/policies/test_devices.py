"""Names of devices: those that were tried, and no other is taken for one of them."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

import torch

from vla_ros.errors import CheckpointError
from vla_ros.policies.local import choose_device


@pytest.mark.parametrize("name", ["gpu", "mps", "", "cuda:", "CPU", "cpu:0:1", "meta"])
def test_a_device_that_was_never_tried_is_refused(name):
    with pytest.raises(CheckpointError, match="expected auto, cpu, cuda or cuda:<number>"):
        choose_device(name)


def test_a_cuda_device_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert choose_device("cuda:0") == torch.device("cuda:0")
    with pytest.raises(CheckpointError, match=r"cuda:1.*sees 1"):
        choose_device("cuda:1")
