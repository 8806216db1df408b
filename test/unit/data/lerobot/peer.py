"""Runs where there is the `lerobot` package: writes a data set with it, reads or edits one, says what it saw.

<python of that environment> peer.py write FOLDER
<python of that environment> peer.py read FOLDER
<python of that environment> peer.py edit FOLDER OTHER TARGET
"""

import inspect
import json
import sys

import numpy as np
from lerobot.datasets.dataset_tools import delete_episodes, merge_datasets, split_dataset
from lerobot.datasets.lerobot_dataset import LeRobotDataset

HEIGHT, WIDTH = 64, 64
FEATURES = {
    "observation.images.front": {
        "dtype": "video",
        "shape": (HEIGHT, WIDTH, 3),
        "names": ["height", "width", "channels"],
    },
    "observation.state": {"dtype": "float32", "shape": (3,), "names": ["a", "b", "c"]},
    "action": {"dtype": "float32", "shape": (7,), "names": ["x", "y", "z", "rx", "ry", "rz", "gripper"]},
    "next.success": {"dtype": "bool", "shape": (1,), "names": None},
}


def grey(episode, index):
    return 40 + 50 * episode + 6 * index


def write(folder):
    encoder = {"vcodec": "libsvtav1"}  # AV1; from 0.6 on it is the default, and the option is gone
    if "vcodec" not in inspect.signature(LeRobotDataset.create).parameters:
        encoder = {}
    dataset = LeRobotDataset.create("test/peer", fps=10, features=FEATURES, root=folder, **encoder)
    for episode, count in enumerate((5, 8, 3)):
        for index in range(count):
            dataset.add_frame(
                {
                    "observation.images.front": np.full((HEIGHT, WIDTH, 3), grey(episode, index), np.uint8),
                    "observation.state": np.array([episode, index, 0.5], np.float32),
                    "action": np.arange(7, dtype=np.float32) + episode,
                    "next.success": np.array([index == count - 1 and episode != 1]),
                    "task": f"task {episode % 2}",
                }
            )
        dataset.save_episode()
    dataset.finalize()


def read(folder):
    dataset = LeRobotDataset("test/ours", root=folder, video_backend="pyav")
    steps = []
    for i in range(len(dataset)):
        item = dataset[i]
        cameras = {k: v for k, v in item.items() if k.startswith("observation.images.")}
        steps.append(
            {
                "episode": int(item["episode_index"]),
                "index": int(item["frame_index"]),
                "task": item["task"],
                "action": item["action"].tolist(),
                "state": item["observation.state"].tolist(),
                "done": bool(item["next.done"]),
                "success": bool(item["next.success"]),
                "pictures": {
                    k: [list(v.shape), (v.float().mean(dim=(1, 2)) * 255).tolist()] for k, v in cameras.items()
                },
            }
        )
    mean = dataset.meta.stats["action"]["mean"].tolist()
    print(json.dumps({"episodes": dataset.num_episodes, "fps": dataset.fps, "steps": steps, "action_mean": mean}))


def edit(folder, other, target):
    """Run its own tools: merge both sets, delete episode 1 of what that makes, and split the first set."""
    first, second = (LeRobotDataset(f"test/{i}", root=root) for i, root in enumerate((folder, other)))
    merged = merge_datasets([first, second], output_repo_id="test/merged", output_dir=f"{target}/merged")
    delete_episodes(merged, [1], output_dir=f"{target}/deleted", repo_id="test/deleted")
    split_dataset(first, {"train": [0, 2], "val": [1]}, output_dir=f"{target}/split")


if __name__ == "__main__":
    {"write": write, "read": read, "edit": edit}[sys.argv[1]](*sys.argv[2:])
