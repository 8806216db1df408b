"""Serve a policy of your own by openpi's protocol, and ask it as a robot elsewhere would.

Run: python examples/serve_a_policy.py
"""

import asyncio
import queue
import threading

import numpy as np

from vla_ros import ActionChunk, Instruction, Observation, RobotState, load_contract, load_policy
from vla_ros.policies.protocol import close_policy
from vla_ros.policies.serving.server import PolicyServer, ServeOptions
from vla_ros.robot.kinematics import Kinematics

contract = load_contract("panda")


class Leftwards:
    """A policy that moves the tool 1 cm a row to the left, whatever it sees."""

    name, device, specification, image_sizes = "leftwards", "cpu", contract.action, {"front": (96, 128)}

    def reset(self, instruction: Instruction) -> None:
        """Begin afresh with a new instruction."""
        print("asked to", instruction.text)

    def predict(self, observation: Observation) -> ActionChunk:
        """Return the same plan every time, (horizon, 7) m, rotation vector, m."""
        space = self.specification
        rows = np.zeros((space.horizon, space.width))
        rows[:, 1], rows[:, -1] = 0.01 * np.arange(1, len(rows) + 1), contract.gripper.max_opening
        return ActionChunk(rows, space.period, observation.stamp, space.fingerprint)


listening: queue.Queue[int] = queue.Queue()
server = PolicyServer(Leftwards(), contract, ServeOptions(port=0))
serving = threading.Thread(target=lambda: asyncio.run(server.run(asyncio.Event(), listening.put)), daemon=True)
serving.start()

policy = load_policy(f"openpi://127.0.0.1:{listening.get(timeout=30.0)}", contract)
home = np.array(contract.joints.home)
state = RobotState(home, np.zeros_like(home), 0.08, Kinematics(contract).forward(home), stamp=1.0)
policy.reset(Instruction("go left"))
chunk = policy.predict(Observation({"front": np.zeros((96, 128, 3), np.uint8)}, state, None, stamp=1.0))
print(f"{policy.name}: {len(chunk.actions)} rows, the last {100 * chunk.actions[-1, 1]:.0f} cm to the left")
close_policy(policy)
