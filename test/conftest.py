"""What must be set before any test imports MuJoCo: it chooses its OpenGL back end when it is imported."""

import vla_ros.sim.rendering  # noqa: F401
