"""Batches of pictures: each change does what its name says, and no more."""

import pytest
import torch

from vla_ros.data.augmentation.images import ImageAugmentation, ImageSettings
from vla_ros.errors import ContractError

NOTHING = {
    "crop": 1.0,
    "brightness": 0.0,
    "contrast": 0.0,
    "saturation": 0.0,
    "hue": 0.0,
    "blur": 0.0,
    "noise": 0.0,
    "cutout": 0.0,
}


def pictures(count=16):
    """Red on the left half, blue on the right, a bright stripe below."""
    images = torch.full((count, 3, 48, 64), 0.2)
    images[:, 0, :, :32], images[:, 2, :, 32:], images[:, :, 40:] = 0.7, 0.7, 0.6
    return images


def changed(seed=0, **settings):
    return ImageAugmentation(ImageSettings(**{**NOTHING, **settings}))(pictures(), seed)


def test_nothing_asked_for_nothing_done():
    assert torch.equal(changed(), pictures())


def test_a_seed_decides_and_the_global_state_stays():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    augment = ImageAugmentation(ImageSettings())
    first = augment(pictures(), 3)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(augment(pictures(), 3), first)
    assert not torch.equal(augment(pictures(), 4), first)
    assert first.shape == pictures().shape and first.dtype == torch.float32
    assert first.min() >= 0.0 and first.max() <= 1.0


@pytest.mark.parametrize(
    "settings",
    [
        {"crop": 0.5},
        {"brightness": 0.4},
        {"contrast": 0.4},
        {"saturation": 0.5},
        {"blur": 1.0},
        {"noise": 0.1},
        {"cutout": 1.0, "cutout_area": 0.2},
    ],
)
def test_each_picture_is_changed_in_its_own_way(settings):
    found = changed(**settings)
    assert not torch.equal(found, pictures())
    assert not all(torch.equal(one, found[0]) for one in found)


def test_left_stays_left():
    for seed in range(20):
        found = ImageAugmentation(ImageSettings(crop=0.6))(pictures(), seed)
        red = found[:, 0, :36] - found[:, 2, :36]
        assert (red[:, :, :16].mean(dim=(1, 2)) > 0.1).all()
        assert (red[:, :, 48:].mean(dim=(1, 2)) < -0.1).all()


def test_noise_has_the_size_that_it_says():
    difference = changed(noise=0.05) - pictures()
    assert difference.std() == pytest.approx(0.05, rel=0.05)
    assert abs(difference.mean()) < 1e-3


def test_cut_out_takes_at_most_its_share():
    blank = (changed(cutout=1.0, cutout_area=0.15) == 0.0).all(dim=1).float().mean(dim=(1, 2))
    assert (blank > 0.0).all() and (blank <= 0.17).all()


def test_brightness_stays_within_its_range():
    ratio = changed(brightness=0.3) / pictures()
    assert (ratio >= 0.69).all() and (ratio <= 1.31).all()


@pytest.mark.parametrize(
    "images",
    [
        torch.zeros(3, 8, 8),
        torch.zeros(1, 1, 8, 8),
        torch.full((1, 3, 8, 8), 2.0),
        torch.full((1, 3, 8, 8), float("nan")),
        torch.zeros(1, 3, 8, 8, dtype=torch.uint8),
    ],
)
def test_what_is_no_batch_is_refused(images):
    with pytest.raises(ContractError):
        ImageAugmentation(ImageSettings())(images, 0)


def test_settings_have_ranges():
    for name, value in (("hue", 0.6), ("crop", 0.0), ("noise", float("nan"))):
        with pytest.raises(ContractError, match=name):
            ImageSettings(**{name: value})
