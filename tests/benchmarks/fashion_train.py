"""Train a ResNet-20, a MobileNetV2-like network or a small ViT on Fashion-MNIST, and export it twice.

It is written with BatchNorm folded and with it kept, and its weights as PyTorch saves them. PyTorch is
needed to run this script, and only for that.

Usage::

    python tests/benchmarks/fashion_train.py DATA FOLDER [--epochs 6] [--images 60000] [--network resnet20]
        [--seed 0]
"""

from __future__ import annotations

import argparse
import gzip
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

BATCH = 128

LAYOUT = torch.channels_last
"""Kernels of depthwise convolutions are slow in PyTorch's default layout."""


class Residual(nn.Module):
    """Two 3x3 convolutions beside the identity, or a 1x1 convolution where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = convolution(inputs, outputs, 3, stride)
        self.second = convolution(outputs, outputs, 3)
        changes = stride > 1 or inputs != outputs
        self.skip = convolution(inputs, outputs, 1, stride) if changes else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Sum of both paths."""
        return functional.relu(self.second(functional.relu(self.first(x))) + self.skip(x))


class Inverted(nn.Module):
    """Widen, filter each channel alone, narrow again; beside the identity where the shape stays."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        hidden = inputs * 4
        self.body = nn.Sequential(
            convolution(inputs, hidden, 1),
            nn.ReLU6(),
            convolution(hidden, hidden, 3, stride, hidden),
            nn.ReLU6(),
            convolution(hidden, outputs, 1),
        )
        self.add = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """Output of the block."""
        return x + self.body(x) if self.add else self.body(x)


def convolution(inputs: int, outputs: int, size: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution and BatchNorm."""
    conv = nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs))


def head(width: int) -> list[nn.Module]:
    """Mean over positions, then classes."""
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10)]


def resnet20() -> nn.Module:
    """The ResNet-20 of He et al. (arXiv 1512.03385), for one input channel."""
    blocks: list[nn.Module] = [convolution(1, 16, 3), nn.ReLU()]
    width = 16
    for outputs, stride in ((16, 1), (32, 2), (64, 2)):
        for k in range(3):
            blocks.append(Residual(width, outputs, stride if k == 0 else 1))
            width = outputs
    return nn.Sequential(*blocks, *head(width))


def mobilenet() -> nn.Module:
    """Inverted residuals as in MobileNetV2 (arXiv 1801.04381), small."""
    blocks: list[nn.Module] = [convolution(1, 16, 3), nn.ReLU6()]
    width = 16
    for outputs, stride, count in ((16, 1, 1), (24, 2, 2), (32, 2, 3), (64, 1, 2)):
        for k in range(count):
            blocks.append(Inverted(width, outputs, stride if k == 0 else 1))
            width = outputs
    return nn.Sequential(*blocks, convolution(width, 256, 1), nn.ReLU6(), *head(256))


class Attention(nn.Module):
    """Four heads over all tokens."""

    def __init__(self, width: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """What the tokens [batch, tokens, width] take from each other."""
        q, k, v = (
            f(x).reshape(x.shape[0], 49, self.heads, -1).transpose(1, 2) for f in (self.q, self.k, self.v)
        )
        share = torch.softmax(q @ k.transpose(2, 3) / q.shape[-1] ** 0.5, dim=-1)
        return self.out((share @ v).transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Attention and an MLP, each behind a LayerNorm and beside the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.attention = nn.Sequential(nn.LayerNorm(width), Attention(width))
        hidden = 2 * width
        self.mlp = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Output of the block."""
        x = x + self.attention(x)
        return x + self.mlp(x)


class Transformer(nn.Module):
    """A vision transformer (arXiv 2010.11929) on patches of 4 x 4 pixels, classes from the mean of the tokens."""

    def __init__(self, width: int = 64, depth: int = 4) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, width, 4, 4)
        self.places = nn.Parameter(0.02 * torch.randn(1, 49, width))
        self.blocks = nn.Sequential(*(Block(width) for _ in range(depth)), nn.LayerNorm(width))
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Scores of classes."""
        tokens = self.patches(x).flatten(2).transpose(1, 2) + self.places
        return self.head(self.blocks(tokens).mean(1))


NETWORKS = {"resnet20": resnet20, "mobilenet": mobilenet, "vit": Transformer}

RATES = {"vit": 0.03}
"""Highest learning rate, where it is not 0.2."""


def read(folder: Path, part: str) -> tuple[Tensor, Tensor]:
    """Images and labels of ``train`` or ``t10k``."""
    with gzip.open(folder / f"{part}-images-idx3-ubyte.gz") as file:
        images = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 1, 28, 28)
    with gzip.open(folder / f"{part}-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read(), np.uint8, offset=8)
    scaled = (images.astype(np.float32) / 255 - 0.2860) / 0.3530
    return torch.from_numpy(scaled), torch.from_numpy(labels.astype(np.int64))


def train(net: nn.Module, images: Tensor, labels: Tensor, epochs: int, rate: float) -> None:
    """Stochastic gradient descent with one cycle; images are flipped at random."""
    steps = len(images) // BATCH
    optimiser = torch.optim.SGD(net.parameters(), 0.1, 0.9, weight_decay=5e-4, nesterov=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=epochs * steps)
    for epoch in range(epochs):
        for chosen in torch.randperm(len(images))[: steps * BATCH].view(steps, BATCH):
            x = images[chosen]
            x = torch.where(torch.rand(BATCH, 1, 1, 1) < 0.5, x, x.flip(3))
            optimiser.zero_grad()
            loss = functional.cross_entropy(net(x.to(memory_format=LAYOUT)), labels[chosen])
            loss.backward()
            optimiser.step()
            schedule.step()
        print(f"epoch {epoch + 1}: loss {float(loss.detach()):.3f}", flush=True)


def export(net: nn.Module, path: Path, folded: bool) -> None:
    """Write the network as ONNX."""
    mode = torch.onnx.TrainingMode.EVAL if folded else torch.onnx.TrainingMode.PRESERVE
    torch.onnx.export(
        net,
        (torch.zeros(2, 1, 28, 28),),
        path,
        input_names=["image"],
        output_names=["logits"],
        opset_version=17,
        dynamic_axes={"image": {0: "batch"}, "logits": {0: "batch"}},
        training=mode,
        dynamo=False,
    )


def main() -> None:
    """Train, measure and export."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--images", type=int, default=60_000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--network", choices=NETWORKS, default=next(iter(NETWORKS)))
    given = parser.parse_args()
    torch.manual_seed(given.seed)
    torch.set_num_threads(given.threads)
    images, labels = read(given.data, "train")
    net = NETWORKS[given.network]().to(memory_format=LAYOUT)
    net.train()
    train(net, images[: given.images], labels[: given.images], given.epochs, RATES.get(given.network, 0.2))
    net.eval()
    held, classes = read(given.data, "t10k")
    with torch.no_grad():
        hits = [
            (net(x).argmax(1) == y).sum() for x, y in zip(held.split(500), classes.split(500), strict=True)
        ]
    print(f"{given.network}: accuracy {float(sum(hits)) / len(held):.4f}")
    torch.save(net.state_dict(), given.folder / f"{given.network}.pt")
    for folded in (True, False):
        export(net, given.folder / f"{given.network}{'' if folded else '_bn'}.onnx", folded)
    np.savez(given.folder / "calibration.npz", image=images[:512].numpy())
    np.savez(given.folder / "test.npz", image=held.numpy(), labels=classes.numpy())


if __name__ == "__main__":
    main()
