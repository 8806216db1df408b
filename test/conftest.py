"""What must be set before any test: MuJoCo chooses its OpenGL back end when it is imported; no test asserts a time."""

from hypothesis import settings

import vla_ros.sim.rendering  # noqa: F401

settings.register_profile("no_clock", deadline=None)
settings.load_profile("no_clock")
