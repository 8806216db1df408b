"""Runs Vision-Language-Action policies on a robot arm, behind a safety layer that lets nothing unsafe reach the motors.

The core rooms (types, actions, robot, safety, perception, language, models, policies, data, training, sim, evaluation,
insight) import without ROS 2. Only `vla_ros.nodes` and `vla_ros.cli` use rclpy and the generated messages.
"""

import sys
from pathlib import Path

# The build generates `vla_ros.msg` and `vla_ros.srv` into an installed package of this same name. The written half and
# the generated half are one package wherever Python found it first: the source tree, a symlinked or a copied install.
# resolve() leads from a symlinked install to the source tree, so new source files need no rebuild.
_halves = [Path(__file__).resolve().parent]
_halves += [Path(entry, __name__) for entry in sys.path if Path(entry, __name__, "msg").is_dir()]
__path__ = list(dict.fromkeys(map(str, _halves)))
