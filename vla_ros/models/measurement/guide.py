"""Advice on choosing a network, with its paper; `vla-ros models` prints it with measurements of this machine."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Guide:
    """Advice on one network.

    Attributes:
        best_for: Its strengths compared with the others.
        use_when: Conditions under which it is the right choice.
        good_for: Suitable tasks.
        paper: Source.
        extra: Whether it needs the extra `models` (Transformers).
    """

    best_for: str
    use_when: str
    good_for: str
    paper: str
    extra: bool = False


GUIDES = {
    "foundation": Guide(
        "a distribution over chunks that can be sampled and scored",
        "several ways are right and how sure the policy is matters",
        "a first model of one's own, mixed tasks",
        "RT-1 (arXiv 2212.06817), Perceiver IO; mixture head of Bishop 1994",
    ),
    "rt2": Guide(
        "language to action, generalisation across tasks",
        "strong understanding of language and planning of tasks are needed",
        "navigation, manipulation by natural language",
        "RT-2 (arXiv 2307.15818)",
    ),
    "diffusion": Guide(
        "precise actions, handling of uncertainty",
        "smooth, continuous sequences of actions are needed",
        "fine manipulation, generation of trajectories",
        "Diffusion Policy (arXiv 2303.04137)",
    ),
    "flow": Guide(
        "the same in fewer steps and with a simpler loss",
        "diffusion would do, and the delay or the tuning of its schedule is in the way",
        "dexterous tasks at a high rate",
        "pi0 (arXiv 2410.24164), Flow Matching (arXiv 2210.02747)",
    ),
    "clip": Guide(
        "identification of objects, visual grounding",
        "vision and language have to be aligned well, and published CLIP weights can be had",
        "tasks around objects, visual search",
        "CLIP (arXiv 2103.00020), CLIPort (arXiv 2109.12098)",
        extra=True,
    ),
    "grounded": Guide(
        "telling which thing is meant, that it is not there, or that several fit",
        "a wrong object is worse than a question",
        "cluttered tables, commands by people",
        "DETR (arXiv 2005.12872), OWLv2 (arXiv 2306.09683)",
    ),
    "memory_efficient": Guide(
        "training on little memory",
        "the GPU is small or the batch has to be large",
        "on-board training, many cameras",
        "EfficientNet (arXiv 1905.11946), DistilBERT (arXiv 1910.01108), checkpointing (arXiv 1604.06174)",
        extra=True,
    ),
    "real_time": Guide(
        "the lowest and steadiest latency per image at full size",
        "the policy runs on the robot's own processor",
        "reactive control, moving targets",
        "MobileNetV2 (arXiv 1801.04381)",
        extra=True,
    ),
    "unified": Guide(
        "learning from end to end, most flexibility",
        "there is training data at a large scale",
        "general-purpose robots, complex reasoning",
        "Gato (arXiv 2205.06175), OpenVLA (arXiv 2406.09246)",
    ),
    "compositional": Guide(
        "several tasks, pairs of colour and shape and words that were never seen",
        "sentences are about an act, a thing and a goal, and little data has to do",
        "pick, place, push, stack on a table",
        "products of experts (Hinton 2002) over spatial softmax (arXiv 1504.00702)",
    ),
    "keypoint": Guide(
        "learning one task from a few hundred demonstrations on a CPU",
        "the named object's place is known in training, as in simulation",
        "the shipped pick policy",
        "spatial softmax (arXiv 1504.00702), FiLM (arXiv 1709.07871), ACT (arXiv 2304.13705)",
    ),
}
"""Network name to its advice, in printing order."""
