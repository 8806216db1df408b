"""Serve /sim/reset_scene for Gazebo: one reset at a time, while the robot is disarmed.

arm home, gripper open -> all models to their places in one call -> they rest there -> response
"""

from __future__ import annotations

import time
from typing import Protocol

import numpy as np
from rclpy.node import Node

from vla_ros.envs.gazebo.scene import GazeboScene, lay_out
from vla_ros.errors import SimulationError, VlaError
from vla_ros.nodes.sim.gazebo_service import PoseCall
from vla_ros.nodes.sim.homing import Homing
from vla_ros.nodes.sim.wait import STALL_TIMEOUT, Patience, SimulationWait
from vla_ros.robot.contract import RobotContract
from vla_ros.srv import ResetScene
from vla_ros.types import FloatArray

SERVICE = "sim/reset_scene"

HOME_TOLERANCE = 0.05
"""Maximum distance of every joint from home for the arm to count as at home, rad."""

SETTLE_TIME = 0.5
"""Time for objects to come to rest, s."""

PLACINGS = 4
"""Maximum number of placement attempts: Gazebo keeps a model's velocity when it is moved, so a ball rolls on."""


class CellState(Protocol):
    """The workcell as seen by a reset, which also reports the new scene to it."""

    def refusal(self) -> str:
        """Return why the arm must not be moved now, or ""."""

    def joint_positions(self) -> FloatArray:
        """Return the current joint positions, (n,) rad.

        Raises:
            SimulationError: when they are not known.
        """

    def expect(self, scene: GazeboScene) -> None:
        """Register that the models have been moved to the places of `scene`."""

    def in_place(self) -> bool:
        """Return whether every object of the expected scene is in place."""


class SceneReset:
    """The service, from construction to `close`."""

    def __init__(self, node: Node, contract: RobotContract, world: str, cell: CellState) -> None:
        """Serve on `node`, for the robot of `contract` in the Gazebo world called `world`."""
        self._node, self._contract, self._world, self._cell = node, contract, world, cell
        self._wait = SimulationWait(node)
        self._service = self._wait.serve(ResetScene, SERVICE, self._answer)
        self._busy = False

    @property
    def busy(self) -> bool:
        """Whether a reset is in progress."""
        return self._busy

    def close(self) -> None:
        """Destroy the service; a running reset ends with an error."""
        self._wait.close()
        self._node.destroy_service(self._service)

    async def _answer(self, request: ResetScene.Request, response: ResetScene.Response) -> ResetScene.Response:
        if self._busy:
            response.message = "another reset is under way"
            return response
        self._busy = True
        try:
            scene = lay_out(int(request.seed), request.instruction or None)
            await self._reset(scene)
        except VlaError as error:
            response.message = str(error)[:256]
            return response
        finally:
            self._busy = False
        names = [item.name for item in scene.objects]
        response.success, response.instruction, response.objects = True, scene.instruction, names
        response.message = f"scene {request.seed}: {', '.join(names)}"
        return response

    async def _reset(self, scene: GazeboScene) -> None:
        await self._go_home()
        for _ in range(PLACINGS):
            await self._put(scene)
            if self._cell.in_place():
                return
        raise SimulationError("the objects do not rest where they were put")

    async def _put(self, scene: GazeboScene) -> None:
        call = PoseCall(self._world, scene.poses)
        try:
            await self._wait.until(call.finished, "answer of Gazebo to set_pose_vector")
        finally:
            call.close()
        self._cell.expect(scene)
        end = self._wait.now() + SETTLE_TIME
        await self._wait.until(lambda: self._wait.now() >= end, "simulation time that runs")

    async def _go_home(self) -> None:
        self._check()
        homing = Homing(self._node, self._contract, self._cell.joint_positions())
        try:
            await self._wait.until(lambda: homing.connected, "controllers that listen")
            patience, begin = Patience(), self._wait.now()
            while not homing.done:
                self._check()
                now = self._wait.now()
                if patience.stalled(now, time.monotonic()):
                    raise SimulationError(f"the simulation's clock stood still for {STALL_TIMEOUT:g} s")
                homing.step(now - begin)
                await self._wait.next_tick()
            await self._wait.until(self._is_home, "arm at home")
        finally:
            homing.close()

    def _check(self) -> None:
        refusal = self._cell.refusal()
        if refusal:
            raise SimulationError(refusal)

    def _is_home(self) -> bool:
        self._check()
        away = np.abs(self._cell.joint_positions() - self._contract.joints.home)
        return bool(away.max() < HOME_TOLERANCE)
