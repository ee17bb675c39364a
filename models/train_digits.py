"""Train the digits network and write ``digits.onnx`` with its data files.

PyTorch and scikit-learn are needed to run this script, and only for that: the
files it writes are plain ONNX and NumPy.

Usage::

    python models/train_digits.py [folder]
"""

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.nn import functional

SEED = 0
HELD_OUT = 450
CALIBRATION = 512
EPOCHS = 60
BATCH = 64
OPSET = 17
INPUT, OUTPUT = "image", "logits"


class ConvNorm(nn.Sequential):
    """Convolution with "same" padding and no bias, then batch normalisation."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        # The biases of two normalisations that feed one sum get equal gradients. Started
        # equal they stay equal, and the exporter would store one of them for both.
        nn.init.uniform_(self.norm.bias, -0.1, 0.1)


class Residual(nn.Module):
    """Two 3x3 convolutions beside an identity skip, or a 1x1 one where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.first = ConvNorm(inputs, outputs, 3, stride)
        self.second = ConvNorm(outputs, outputs, 3)
        self.skip: nn.Module = nn.Identity()
        if inputs != outputs or stride != 1:
            self.skip = ConvNorm(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Sum of both paths."""
        y = self.second(functional.relu(self.first(x)))
        return functional.relu(y + self.skip(x))


class InvertedResidual(nn.Module):
    """Widen, filter each channel alone, narrow again and add the input (MobileNetV2)."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.expand = ConvNorm(channels, hidden, 1)
        self.depthwise = ConvNorm(hidden, hidden, 3, groups=hidden)
        self.project = ConvNorm(hidden, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Input plus the filtered input."""
        hidden = functional.relu6(self.expand(x))
        hidden = functional.relu6(self.depthwise(hidden))
        y: Tensor = self.project(hidden)
        return x + y


class Branches(nn.Module):
    """A 1x1 and a 3x3 convolution side by side, concatenated, then one normalisation."""

    def __init__(self, inputs: int, point: int, window: int) -> None:
        super().__init__()
        self.point = nn.Conv2d(inputs, point, 1, bias=False)
        self.window = nn.Conv2d(inputs, window, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(point + window)

    def forward(self, x: Tensor) -> Tensor:
        """Both branches as one tensor."""
        return functional.relu(self.norm(torch.cat([self.point(x), self.window(x)], dim=1)))


class DigitsNet(nn.Module):
    """Small residual network from ``[batch, 1, 8, 8]`` images to ten logits."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvNorm(1, 32, 3)
        self.stage1 = Residual(32, 32)
        self.stage2 = Residual(32, 64, stride=2)
        self.inverted = InvertedResidual(64, 128)
        self.branches = Branches(64, 32, 64)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(96, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of a batch of images."""
        x = functional.relu(self.stem(x))
        x = self.stage2(self.stage1(x))
        x = self.branches(self.inverted(x))
        logits: Tensor = self.head(torch.flatten(self.pool(x), 1))
        return logits


def load() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return training images, training labels, held-out images and held-out labels."""
    digits = load_digits()
    images = (digits.images[:, None] / 16).astype(np.float32)
    labels = digits.target.astype(np.int64)
    # Stratified, so that all ten digits are as frequent in one part as in the other.
    parts = train_test_split(images, labels, test_size=HELD_OUT, random_state=SEED, stratify=labels)
    images, held_images, labels, held_labels = (torch.from_numpy(part) for part in parts)
    return images, labels, held_images, held_labels


def shift(images: Tensor) -> Tensor:
    """Move each image by at most one pixel in both directions, filling with background."""
    padded = functional.pad(images, (1, 1, 1, 1))
    rows, columns = torch.randint(0, 3, (2, len(images)))
    moved = [
        image[:, row : row + 8, column : column + 8]
        for image, row, column in zip(padded, rows.tolist(), columns.tolist(), strict=True)
    ]
    return torch.stack(moved)


def train(net: nn.Module, images: Tensor, labels: Tensor) -> None:
    """Fit `net` by stochastic gradient descent; the epoch count is fixed beforehand.

    The held-out part takes no part in it: neither early stopping nor the choice of
    an epoch looks at it.
    """
    batches = len(images) // BATCH
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=0.1, total_steps=EPOCHS * batches)
    net.train()
    for _ in range(EPOCHS):
        # The last incomplete batch is dropped: BatchNorm statistics of a few images are noise.
        for batch in torch.randperm(len(images))[: batches * BATCH].view(batches, BATCH):
            optimiser.zero_grad()
            loss = functional.cross_entropy(net(shift(images[batch])), labels[batch])
            loss.backward()
            optimiser.step()
            schedule.step()
    net.eval()


def export(net: nn.Module, path: Path) -> None:
    """Write `net` as ONNX with its BatchNormalization nodes and parameter names kept."""
    torch.onnx.export(
        net,
        (torch.zeros(2, 1, 8, 8),),
        path,
        input_names=[INPUT],
        output_names=[OUTPUT],
        opset_version=OPSET,
        dynamic_axes={INPUT: {0: "batch"}, OUTPUT: {0: "batch"}},
        # Preserving the mode of an evaluated network is what stops this exporter from
        # folding BatchNorm into the convolutions.
        training=torch.onnx.TrainingMode.PRESERVE,
        do_constant_folding=True,
        dynamo=False,
    )


def predict(path: Path, images: Tensor) -> npt.NDArray[np.float32]:
    """Return the logits that onnxruntime computes for `images`."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return np.asarray(session.run([OUTPUT], {INPUT: images.numpy()})[0])


def main(folder: Path) -> None:
    """Train, export, verify the export against PyTorch and write the three files."""
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    torch.use_deterministic_algorithms(True)
    images, labels, held_images, held_labels = load()
    net = DigitsNet()
    train(net, images, labels)
    export(net, folder / "digits.onnx")
    onnx.checker.check_model(onnx.load(folder / "digits.onnx"), full_check=True)
    logits = predict(folder / "digits.onnx", held_images)
    with torch.no_grad():
        difference = np.abs(logits - net(held_images).numpy()).max()
    if difference > 1e-5:
        raise SystemExit(f"onnxruntime and PyTorch differ by {difference:.1e}")

    np.savez_compressed(folder / "digits_test.npz", image=held_images.numpy(), labels=held_labels.numpy())
    # The split has already shuffled the images, so the first ones are a random sample.
    np.savez_compressed(folder / "digits_train.npz", image=images[:CALIBRATION].numpy())

    correct = int((logits.argmax(axis=1) == held_labels.numpy()).sum())
    parameters = sum(parameter.numel() for parameter in net.parameters())
    print(f"parameters                   {parameters}")
    print(f"held-out accuracy            {correct}/{HELD_OUT} = {correct / HELD_OUT:.4f}")
    print(f"largest difference of logits {difference:.1e}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Train and export the digits network.")
    parser.add_argument("folder", nargs="?", type=Path, default=Path(__file__).parent)
    main(parser.parse_args().folder)
