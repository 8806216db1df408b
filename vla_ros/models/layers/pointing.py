"""Image keypoints: the spatial expectation of attention (Levine et al. 2016), and losses to supervise it."""

from __future__ import annotations

import torch
from torch import Tensor


def spatial_expectation(weights: Tensor, size: tuple[int, int]) -> Tensor:
    """Return (..., 2), the mean (x, y) of weights (..., h * w) over the cells of a map of `size` (h, w), -1 to 1."""
    height, width = size
    rows = torch.linspace(-1.0, 1.0, height, device=weights.device, dtype=weights.dtype)
    columns = torch.linspace(-1.0, 1.0, width, device=weights.device, dtype=weights.dtype)
    grid = torch.stack([columns.repeat(height), rows.repeat_interleave(width)], dim=-1)
    return weights @ grid


def pointing_loss(attention: Tensor, pixels: Tensor, there: Tensor) -> Tensor:
    """Return the cross entropy between an attention map and a small spot around the object.

    The spot distributes its weight over the four cells around the point, so that its mean is the point itself.

    Args:
        attention: (B, N, h, w), each map summing to 1.
        pixels: (B, N, 2), position in the image, 0 to 1; NaN is ignored.
        there: (B, N), 1 where the object is present.
    """
    height, width = attention.shape[-2:]
    visible = there * torch.isfinite(pixels).all(dim=-1)
    pixels = torch.nan_to_num(pixels)
    x = (pixels[..., 0] * width - 0.5).clamp(0.0, width - 1.001)
    y = (pixels[..., 1] * height - 0.5).clamp(0.0, height - 1.001)
    left, top = x.floor(), y.floor()
    logs = (attention + 1e-9).log().flatten(2)
    loss = torch.zeros_like(x)
    for dx, dy in ((0, 0), (1, 0), (0, 1), (1, 1)):
        weight = (1 - (x - left - dx).abs()) * (1 - (y - top - dy).abs())
        index = ((top + dy) * width + left + dx).long()
        loss = loss - weight * logs.gather(-1, index[..., None])[..., 0]
    return (loss * visible).sum() / visible.sum().clamp(min=1.0)


def cell_loss(logs: Tensor, size: tuple[int, int], pixels: Tensor, classes: Tensor, there: Tensor) -> Tensor:
    """Return the cross entropy of a map's class predictions at the cells that contain objects.

    Args:
        logs: (B, C, h * w) log probabilities of C classes at every cell of a map of `size` (h, w).
        size: Size of the map.
        pixels: (B, N, 2), position of each object in the image, 0 to 1; NaN is ignored.
        classes: (B, N), class of each object.
        there: (B, N), 1 where the object is present.
    """
    height, width = size
    visible = there * torch.isfinite(pixels).all(dim=-1)
    pixels = torch.nan_to_num(pixels)
    column = (pixels[..., 0] * width).long().clamp(0, width - 1)
    row = (pixels[..., 1] * height).long().clamp(0, height - 1)
    at = (row * width + column)[:, None].expand(-1, logs.shape[1], -1)
    output = logs.gather(2, at)  # (B, C, N)
    target = output.gather(1, classes.clamp(max=logs.shape[1] - 1)[:, None])[:, 0]
    return -(target * visible).sum() / visible.sum().clamp(min=1.0)
