"""Simulated images are no false alarm: in motion, at rest, under every perturbation, with sensor noise."""

from __future__ import annotations

import numpy as np
import pytest

from vla_ros.envs.collector import CollectionOptions, Collector
from vla_ros.envs.registry import make_env
from vla_ros.envs.tabletop.perturbations import PERTURBATIONS, training_variation
from vla_ros.perception.health import CameraFault, CameraHealth, HealthLimits
from vla_ros.robot.contract import load_contract

PANDA = load_contract("panda")
PERIOD = 0.1
SIGMAS = (0.0, 5.0, 10.0)
"""Of the sensor noise that is added, of 255."""


class Watched(Collector):
    """Plays episodes of the expert and shows every image to `CameraHealth`, once for each level of noise."""

    def watch(self, seed, perturbation):
        self.env.perturbation = perturbation
        self.env.reset(seed)
        limits = HealthLimits(joint_speed=float(PANDA.joints.velocity.max()))
        self.health = {(c.name, s): CameraHealth(c, limits) for c in PANDA.cameras for s in SIGMAS}
        self.time, self.faults, self.images, self.noise = 1.0, [], 0, np.random.default_rng(seed)
        rng = np.random.default_rng([seed, 1])
        self._play(rng, self.env.config.commands(self.env.scene, rng), None)
        for _ in range(6):
            self.show()  # at rest

    def show(self):
        joints = self.env.state().joint_positions
        for camera in PANDA.cameras:
            rendered = self.env.render(camera.name)
            for sigma in SIGMAS:
                noise = self.noise.normal(0.0, sigma, rendered.shape) if sigma else 0.0
                image = np.clip(rendered + noise, 0, 255).astype(np.uint8)
                health = self.health[camera.name, sigma]
                health.receive(image, camera.frame, self.time, self.time)
                if health.check_motion(image, joints, self.time) is not CameraFault.NONE:
                    self.faults.append((camera.name, sigma, health.sentence(self.time)))
                self.images += 1
        self.time += PERIOD

    def _label(self, commands, asked):
        self.show()
        return super()._label(commands, asked)


@pytest.fixture(scope="module")
def watched():
    return Watched(make_env("tabletop", PANDA), CollectionOptions(max_steps=40, switch=0.0))


@pytest.mark.parametrize("name", [*PERTURBATIONS, "training"])
def test_simulated_images_are_no_alarm(watched, name):
    change = PERTURBATIONS.get(name) or training_variation(np.random.default_rng(5))
    watched.watch(3, change)
    assert watched.images > 100
    assert watched.faults == []
