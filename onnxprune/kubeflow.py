"""NVIDIA TAO's prune as a component of Kubeflow Pipelines.

    from onnxprune.kubeflow import component
    prune = component()                         # in a pipeline: prune(unpruned_model_dir=..., pth=0.5)

It takes kfp: ``pip install 'onnxprune[kubeflow]'``. The image that it runs in is built from
``.github/container/Containerfile``.
"""

# kfp copies the source of the function, and reads its annotations there: none of them may be a text.

from os import PathLike
from typing import Any

from . import __version__
from .plugins import needed

needed("kfp", "kubeflow")

from kfp import compiler, dsl  # noqa: E402

IMAGE = f"onnxprune:{__version__}"


def tao_prune(  # type: ignore[no-untyped-def]
    unpruned_model_dir: dsl.Input[dsl.Artifact],
    pruned_model_dir: dsl.Output[dsl.Artifact],
    model_app_name: str = "",
    unprunned_model_subfolder: str = "",
    unprunned_model_name: str = "model.onnx",
    prunned_model_subfolder: str = "",
    prunned_model_name: str = "",
    key: str = "",
    equalization_criterion: str = "union",
    pth: float = 0.1,
    normalizer: str = "max",
    excluded_layers: str = "",
    pruning_granularity: int = 8,
    min_num_filters: int = 0,
):
    """Prune one ONNX model of a folder into another folder, as NVIDIA TAO prunes."""
    given = {name: value for name, value in locals().items() if not name.endswith("_model_dir")}
    from onnxprune.doors.component import prune_folder

    done = prune_folder(unpruned_model_dir.path, pruned_model_dir.path, **given)
    pruned_model_dir.metadata["pruning_ratio"] = done["pruning_ratio"]


def component(image: str = IMAGE) -> Any:
    """The component, to be called in a pipeline or compiled.

    Parameters
    ----------
    image : str
        Image with onnxprune and kfp in it.
    """
    return dsl.component(base_image=image, install_kfp_package=False)(tao_prune)


def write(path: str | PathLike[str], image: str = IMAGE) -> None:
    """Compile the component into a YAML file."""
    compiler.Compiler().compile(component(image), str(path))
