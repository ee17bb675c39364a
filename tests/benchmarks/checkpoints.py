"""How many networks of torchvision and timm come back into training: cut, and equal to their slim ONNX file.

    python tests/benchmarks/checkpoints.py [--only NAME] [--export WAY] [--json FILE]

It takes PyTorch, torchvision and timm. Weights are random and different everywhere, statistics included,
as after training. Every network is exported three times: by the older exporter with batch normalization
folded (eval) and kept (training), and by the newer one (dynamo).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

TORCHVISION = """
resnet18 mobilenet_v2 squeezenet1_1 shufflenet_v2_x1_0 mnasnet1_0 mobilenet_v3_small regnet_x_400mf
regnet_y_400mf densenet121 googlenet resnext50_32x4d efficientnet_b0 convnext_tiny swin_t alexnet vgg11_bn
inception_v3 vit_b_16
"""

TIMM = """
resnet26d mobilenetv3_small_100 mobilenetv4_conv_small ghostnet_100 repvgg_a0 hrnet_w18_small vovnet39a
dla34 res2net50_26w_4s cspresnet50 efficientnet_lite0 convnextv2_atto poolformer_s12 deit_tiny_patch16_224
swin_tiny_patch4_window7_224 mixer_s32_224 mobilevit_s xcit_nano_12_p16_224 resnetv2_50
beit_base_patch16_224 hrnet_w18_small_v2 res2next50 efficientformer_l1 levit_128s resnest14d ghostnetv2_100
regnetx_002 regnety_002 convnext_atto mobileone_s0 fastvit_t8 edgenext_xx_small pvt_v2_b0 twins_pcpvt_small
nf_regnet_b0 skresnet18 seresnet50 ecaresnet50t tf_efficientnet_b0 lcnet_050 mixnet_s dpn48b gernet_s
inception_next_atto repghostnet_050 repvit_m0_9 starnet_s1 hgnetv2_b0 efficientvit_b0 resmlp_12_224
convmixer_768_32 visformer_tiny cait_xxs24_224 crossvit_tiny_240 gmixer_24_224 selecsls42b bat_resnext26ts
"""

NAMES = [*(f"tv:{name}" for name in TORCHVISION.split()), *(f"timm:{name}" for name in TIMM.split())]

FIXED = ("vit", "swin", "alexnet", "vgg")
"""Networks of torchvision that take images of one size; timm's say so themselves."""

RANDOM = ("RandomUniformLike", "RandomNormalLike", "Bernoulli")
"""Nodes of a training mode that no evaluation mode takes back: what they compute is never the same."""

WAYS = ("eval", "training", "dynamo")


def network(name: str) -> torch.nn.Module:
    """A network with random weights, as different from each other as after training."""
    kind, _, name = name.partition(":")
    stand_in_for_operators()
    if kind == "tv":
        import torchvision

        more = {"aux_logits": False, "init_weights": False} if name in ("googlenet", "inception_v3") else {}
        module = torchvision.models.get_model(name, weights=None, **more)
    else:
        import timm

        module = timm.create_model(name, pretrained=False)
    generator = torch.Generator().manual_seed(0)
    for key, value in module.state_dict().items():
        if value.is_floating_point():
            noise = torch.randn(value.shape, generator=generator)
            value.copy_(
                torch.rand(value.shape, generator=generator) + 0.5
                if key.endswith("var")
                else value + 0.05 * noise
            )
    return module.eval()


_LIBRARIES: list[torch.library.Library] = []


def stand_in_for_operators() -> None:
    """Declare the operators of torchvision's binary, which needs CUDA's libraries; no network here uses them."""
    if _LIBRARIES or "torchvision" in sys.modules:
        return
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define(
        "qroi_align(Tensor input, Tensor rois, float s, SymInt h, SymInt w, int r, bool a) -> Tensor"
    )
    library.define(
        "roi_align(Tensor input, Tensor rois, float s, SymInt h, SymInt w, int r, bool a) -> Tensor"
    )
    _LIBRARIES.append(library)


def export(module: torch.nn.Module, inputs: torch.Tensor, path: Path, way: str) -> None:
    """Write the module as one exporter does."""
    if way == "dynamo":
        torch.onnx.export(module, (inputs,), path, dynamo=True, external_data=False, verbose=False)
        return
    modes = torch.onnx.TrainingMode
    mode = modes.TRAINING if way == "training" else modes.EVAL
    torch.onnx.export(
        module,
        (inputs,),
        path,
        dynamo=False,
        training=mode,
        do_constant_folding=way == "eval",
        opset_version=17,
    )


def image_size(name: str, module: torch.nn.Module) -> int:
    """Height and width of the images that a network is exported for: small ones, where it takes any."""
    config = getattr(module, "default_cfg", None)
    if config is None:
        return 224 if any(part in name for part in FIXED) else 160
    own = config["fixed_input_size"] or "mobilevit" in name or "_256" in name
    return config["input_size"][-1] if own else 160


def measure(name: str, ways: Sequence[str], folder: Path) -> Iterator[dict[str, Any]]:
    """A row for every export of a network."""
    import onnxprune
    import onnxprune.torch
    from onnxprune.checkpoints.formats.pytorch import arrays_of
    from onnxprune.checkpoints.mapping import map_constants
    from onnxprune.checkpoints.uses import uses_of

    size = image_size(name, network(name))
    for way in ways:
        row: dict[str, Any] = {"network": name, "export": way}
        module = network(name)
        before = {key: value.clone() for key, value in module.state_dict().items()}
        path = folder / "dense.onnx"
        start = time.perf_counter()
        try:
            export(module, torch.randn(1, 3, size, size), path, way)
        except Exception as error:
            yield {**row, "problem": f"no export: {type(error).__name__}"}
            continue
        for key, value in module.state_dict().items():
            value.copy_(before[key])  # the training mode updates statistics while it exports
        try:
            dense = onnxprune.load(path)
            origins = map_constants(uses_of(dense), arrays_of(module.state_dict()))
            row["random"] = any(node.op_type in RANDOM for node in dense.proto.graph.node)
            row |= {"constants": len(origins.links), "mapped": len(origins.mapped)}
            result = onnxprune.prune(dense, ratio=0.5)
            slim = onnxprune.torch.slim(module, result.plan, onnx=dense, verify=way != "training")
            row["left"] = result.after.parameters / result.before.parameters
            trained = onnxprune.torch.reweight(result.model, slim, before=slim)
            row["difference"] = onnxprune.torch.compare(slim, trained).difference
        except Exception as error:
            row["problem"] = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        yield {**row, "seconds": round(time.perf_counter() - start, 1)}


def main() -> None:
    """Print a table and a summary."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", action="append", metavar="NAME")
    parser.add_argument("--export", action="append", choices=WAYS)
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    rows = []
    for name in arguments.only or NAMES:
        with tempfile.TemporaryDirectory() as folder:
            for row in measure(name, arguments.export or WAYS, Path(folder)):
                rows.append(row)
                print(json.dumps(row), flush=True)
                if arguments.json:
                    arguments.json.write_text(json.dumps(rows, indent=1))
    good = [row for row in rows if "difference" in row and row["difference"] < 1e-3]
    drawn = sum(row.get("random", False) for row in rows)
    print(f"{drawn} exports draw random numbers, and cannot be compared")
    print(
        f"{len(good)} of {len(rows)} exports come back; largest difference {max(r['difference'] for r in good):.2g}"
    )


if __name__ == "__main__":
    main()
