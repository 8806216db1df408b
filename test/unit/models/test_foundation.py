import time
import torch
from vla_ros.models.foundation import *


def test_overfit(frames, sizes, train, errors):
    torch.manual_seed(0)
    net = FoundationModel.from_config(tiny_config(**sizes))
    print(net.parameter_count)
    t = time.time()
    print("fastest", train(net, 300, 3e-3), time.time() - t)
    with torch.no_grad():
        print(errors(net.act(frames.given)))
        print(net.compute_loss(frames.given, frames.wanted))
