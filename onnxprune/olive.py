"""A pass of Microsoft Olive: ``{"type": "OnnxPrune", "settings": {"ratio": 0.5}}`` in its configuration.

Olive finds a pass by its name in its package configuration, which this module completes:

    from olive.workflows import run
    from onnxprune.olive import package_config
    run({..., "passes": {"prune": {"type": "OnnxPrune", "settings": {"keep_macs": 0.5}}}}, package_config=package_config())

Its command line takes the file that ``write_package_config`` writes: ``olive run --package-config``. It
takes Olive: ``pip install 'onnxprune[olive]'``.
"""

from __future__ import annotations

import json
from os import PathLike
from pathlib import Path
from typing import Any

from . import load, prune
from .plugins import needed

needed("olive", "olive")

from olive.model import ONNXModelHandler  # noqa: E402
from olive.package_config import OlivePackageConfig  # noqa: E402
from olive.passes import Pass  # noqa: E402
from olive.passes.pass_config import PassConfigParam  # noqa: E402

ENTRY = {
    "module_path": f"{__name__}.OnnxPrune",
    "supported_providers": ["*"],
    "supported_accelerators": ["*"],
    "supported_precisions": ["*"],
    "supported_algorithms": [],
    "supported_quantization_encodings": [],
}
"""What Olive's package configuration says about the pass."""


class OnnxPrune(Pass):
    """Remove channels from an ONNX model, and prove what was done."""

    @classmethod
    def _default_config(cls, accelerator_spec: Any) -> dict[str, PassConfigParam]:
        return {
            "preset": PassConfigParam(type_=str, default_value=None, description="tao, netspresso or rknn."),
            "settings": PassConfigParam(
                type_=dict, default_value=None, description="Settings of onnxprune.prune, by their names."
            ),
            "plan_path": PassConfigParam(
                type_=str,
                default_value=None,
                description="Where to write the plan; beside the model by default.",
            ),
        }

    def _run_for_config(self, model: Any, config: Any, output_model_path: str) -> Any:
        settings = {"verify": True, **(config.settings or {})}
        result = prune(load(model.model_path), preset=config.preset, **settings)
        target = Path(output_model_path)
        target = target if target.suffix == ".onnx" else target / "model.onnx"
        target.parent.mkdir(parents=True, exist_ok=True)
        result.model.save(target)
        result.plan.save(config.plan_path or target.with_suffix(".plan.json"))
        return ONNXModelHandler(model_path=str(target))


def package_config() -> dict[str, Any]:
    """Olive's own package configuration, and this pass in it."""
    found = json.loads(Path(OlivePackageConfig.get_default_config_path()).read_text(encoding="utf-8"))
    found["passes"] = {**found["passes"], "OnnxPrune": ENTRY}
    return dict(found)


def write_package_config(path: str | PathLike[str]) -> None:
    """Write that configuration to a file, for ``olive run --package-config``."""
    Path(path).write_text(json.dumps(package_config(), indent=1), encoding="utf-8")
