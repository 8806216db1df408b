"""Measures how many camera images arrive, and how late: two processes, real DDS, every frame counted.

    .venv/bin/python benchmarks/camera_transport.py --frames 300 --json

A publisher sends rgb8 images at 30 Hz like a camera driver; a subscriber receives them like the perception node. Ages
are differences of one steady clock, which both processes share.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

SIZES = {"640x480": (480, 640), "1920x1080": (1080, 1920)}
RATE_HZ = 30.0
DISCOVERY_S = 10.0
DRAIN_S = 2.0


def _publish(height: int, width: int, frames: int, ready: Connection) -> None:
    import numpy as np
    import rclpy
    from sensor_msgs.msg import Image

    from vla_ros.ros.dds.large_buffers import retain_large_buffers
    from vla_ros.ros.messages.conversions import array_to_image, seconds_to_stamp
    from vla_ros.ros.qos import qos

    retain_large_buffers()
    rclpy.init()
    node = rclpy.create_node("camera")
    publisher = node.create_publisher(Image, "/camera/front/image_raw", qos("camera_out"))
    picture = np.random.default_rng(0).integers(0, 255, (height, width, 3)).astype(np.uint8)
    message = array_to_image(picture, 0.0, "")
    end = time.monotonic() + DISCOVERY_S
    while publisher.get_subscription_count() == 0 and time.monotonic() < end:
        time.sleep(0.01)
    ready.recv()
    begin = time.monotonic()
    for number in range(frames):
        time.sleep(max(0.0, begin + number / RATE_HZ - time.monotonic()))
        message.header.frame_id = str(number)
        message.header.stamp = seconds_to_stamp(time.monotonic())
        publisher.publish(message)
    ready.send("sent")
    ready.recv()
    node.destroy_node()
    rclpy.shutdown()


def measure(height: int, width: int, frames: int) -> dict[str, Any]:
    """Send `frames` images of `height` x `width` px from another process and return what arrived."""
    import numpy as np
    import rclpy
    from sensor_msgs.msg import Image

    from vla_ros.ros.dds.large_buffers import retain_large_buffers
    from vla_ros.ros.messages.conversions import stamp_to_seconds
    from vla_ros.ros.qos import qos

    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_publish, args=(height, width, frames, there))
    process.start()
    retain_large_buffers()
    rclpy.init()
    node = rclpy.create_node("perception")
    ages: dict[int, float] = {}

    def take(message: Image) -> None:
        ages[int(message.header.frame_id)] = time.monotonic() - stamp_to_seconds(message.header.stamp)

    node.create_subscription(Image, "/camera/front/image_raw", take, qos("camera"))
    end = time.monotonic() + DISCOVERY_S
    while node.count_publishers("/camera/front/image_raw") == 0 and time.monotonic() < end:
        rclpy.spin_once(node, timeout_sec=0.05)
    here.send("go")
    limit = time.monotonic() + frames / RATE_HZ + 10.0
    finished = False
    while len(ages) < frames and time.monotonic() < limit:
        rclpy.spin_once(node, timeout_sec=0.02)
        if not finished and here.poll():
            finished, limit = True, time.monotonic() + DRAIN_S
    here.send("end")
    process.join(10.0)
    node.destroy_node()
    rclpy.shutdown()
    values = np.array(list(ages.values())) * 1e3
    return {
        "sent": frames,
        "received": len(ages),
        "lost": frames - len(ages),
        "age_ms_p50": round(float(np.percentile(values, 50)), 2) if len(values) else None,
        "age_ms_p99": round(float(np.percentile(values, 99)), 2) if len(values) else None,
        "ages_ms": values.tolist(),
    }


def draw(results: dict[str, dict[str, Any]], path: Path) -> None:
    """Plot the ages of all frames."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 4), dpi=110)
    for size, result in results.items():
        label = f"{size}: {result['received']} of {result['sent']} frames"
        axes.hist(result["ages_ms"], bins=60, alpha=0.6, label=label)
    axes.set(xlabel="age on arrival, ms", ylabel="frames")
    axes.set_title(f"Camera images between two processes, {RATE_HZ:.0f} Hz")
    axes.legend()
    figure.tight_layout()
    figure.savefig(path)


def main() -> None:
    """Measure both sizes and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"))
    parser.add_argument("--json", action="store_true", help="accepted for symmetry: the last line is always JSON")
    args = parser.parse_args()
    from vla_ros.bringup.runner import graph_environment
    from vla_ros.ros.dds.domains import free_domain

    os.environ.update(graph_environment(free_domain()))
    args.out.mkdir(parents=True, exist_ok=True)
    results = {}
    for name, (height, width) in SIZES.items():
        results[name] = measure(height, width, args.frames)
        print(f"{name}: {results[name]['received']} of {args.frames} arrived, p99 {results[name]['age_ms_p99']} ms")
    draw(results, args.out / "camera_transport.png")
    figures = {size: {k: v for k, v in result.items() if k != "ages_ms"} for size, result in results.items()}
    print(json.dumps({"rate_hz": RATE_HZ, **figures}))


if __name__ == "__main__":
    main()
