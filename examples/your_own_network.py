"""A network of your own behind the package's interfaces: it trains, and predicts chunks, like the built-in ones.

An installed package offers it under a name through the entry point group `vla_ros.models`:

    [project.entry-points."vla_ros.models"]
    mine = "my_package.network:MeanColor"

Run: python examples/your_own_network.py
"""

import torch
from torch import Tensor, nn

from vla_ros import VlaModel
from vla_ros.models.batch import ModelInput, ModelOutput, ModelTarget
from vla_ros.models.configuration import ModelConfig


class MeanColor(VlaModel):
    """Predicts a chunk from proprioception, the images' mean colors and the mean word; for N = 1 instruction."""

    Config, TINY, FULL = ModelConfig, {}, {}

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.words = nn.Embedding(config.vocabulary, 16)
        width = config.state_width + 3 * len(config.cameras) + 16
        self.head = nn.Sequential(nn.Linear(width, 64), nn.GELU(), nn.Linear(64, config.horizon * config.action.width))

    def predict(self, inputs: ModelInput) -> ModelOutput:
        """Predict chunks (B, 1, H, columns)."""
        colors = [inputs.images[name].mean(dim=(2, 3)) for name in self.config.cameras]
        features = torch.cat([inputs.state, *colors, self.words(inputs.tokens[:, 0]).mean(dim=1)], dim=-1)
        rows = self.head(features).view(len(features), 1, self.config.horizon, self.config.action.width)
        return ModelOutput.from_actions(rows, self.config.action)

    def compute_loss(self, inputs: ModelInput, target: ModelTarget) -> tuple[Tensor, dict[str, float]]:
        """Return the scalar loss and its parts by name."""
        output = self.predict(inputs)
        loss = nn.functional.mse_loss(output.continuous, target.continuous)
        loss = loss + nn.functional.binary_cross_entropy_with_logits(output.binary, target.binary)
        return loss, {"loss": float(loss.detach())}


torch.manual_seed(0)
network = MeanColor.from_config({"cameras": {"front": (32, 32)}, "vocabulary": 9, "state_width": 10, "horizon": 8})
inputs = ModelInput({"front": torch.rand(4, 3, 32, 32)}, torch.rand(4, 10), torch.randint(1, 9, (4, 1, 5)))
action = network.config.action
target = ModelTarget(
    torch.rand(4, 1, 8, action.continuous), torch.rand(4, 1, 8, action.binary).round(), torch.ones(4, 1)
)
optimizer = torch.optim.Adam(network.parameters(), 1e-2)
for step in range(200):
    loss, _ = network.compute_loss(inputs, target)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 50 == 0 or step == 199:
        print(f"step {step}: loss {loss.item():.4f}")
