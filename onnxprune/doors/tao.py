"""NVIDIA TAO's ``prune``: its flags, its spec, and the arguments of a pipeline component.

Options, defaults and words are those of the command lines of TAO's TensorFlow 1 and 2 networks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import UsageError, reason, unknown_name
from ..plugins import needed

SETTINGS = {
    "normalizer": "normalizer",
    "equalization_criterion": "policy",
    "pruning_granularity": "granularity",
    "pruning_threshold": "threshold",
    "min_num_filters": "min_channels",
}
"""TAO's options, and our settings."""

NORMALIZERS = ("max", "L2", "off")

CRITERIA = ("union", "intersection", "arithmetic_mean", "geometric_mean")

SPEC = {
    "normalizer": "normalizer", "equalization_criterion": "equalization_criterion",
    "granularity": "pruning_granularity", "pruning_granularity": "pruning_granularity",
    "threshold": "pruning_threshold", "pruning_threshold": "pruning_threshold",
    "min_num_filters": "min_num_filters", "excluded_layers": "excluded_layers", "checkpoint": "model",
    "model_path": "model", "pruned_model_path": "model", "output_path": "output", "output_dir": "output",
    "results_dir": "output", "byom_model_path": "", "criterion": "", "method": "", "gpu_ids": "",
    "verbose": "",
}  # fmt: skip
"""Keys of the section ``prune`` of a spec -> options; empty for those that change nothing here."""

OWN = (".tlt", ".etlt", ".tltb", ".hdf5", ".h5", ".keras", ".pth")
"""Endings of files that hold no ONNX graph."""

KEY = "the key (-k) opens .tlt files, which only TAO reads; an ONNX export has none, so it was not used"


LEAST = {"unet": 8}
"""Networks whose smallest number of filters is another one by default."""

YAML = (".yaml", ".yml")

TRAINING = "this spec says how a network is trained, and nothing about pruning, so it was not read"


def read_spec(path: str, changes: Sequence[str] = ()) -> dict[str, Any]:
    """Options of a spec in YAML.

    Parameters
    ----------
    changes : sequence of str
        Other values of it, ``prune.threshold=0.5``.

    Raises
    ------
    UsageError
        If it cannot be read, or its section ``prune`` holds a key that nobody knows.
    InstallationError
        If PyYAML is missing.
    """
    yaml = needed("yaml", "tao", "PyYAML")
    try:
        document = yaml.safe_load(Path(path).read_text(encoding="utf-8")) if path else {}
        values = {key: yaml.safe_load(value) for key, _, value in (one.partition("=") for one in changes)}
    except OSError as error:
        raise UsageError(f"cannot read '{path}': {reason(error)}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UsageError(f"cannot read '{path}': {' '.join(str(error).split())}", "Expected YAML.") from None
    given = document if isinstance(document, Mapping) else {}
    own = {key.removeprefix("prune."): value for key, value in values.items() if key.startswith("prune.")}
    section = given.get("prune", own or None)
    if not isinstance(section, Mapping):
        raise UsageError(f"'{path}' has no section 'prune'", "Expected a spec of TAO's prune.")
    whole = {**given, **values}
    found: dict[str, Any] = {}
    if "encryption_key" in whole:
        found["key"] = whole["encryption_key"]
    for name, value in {**section, **own}.items():
        if name not in SPEC:
            raise unknown_name(f"key of 'prune' in '{path or 'the arguments'}'", str(name), SPEC)
        if SPEC[name] and value is not None:
            found.setdefault(SPEC[name], value)
    if whole.get("results_dir"):
        found.setdefault("output", str(Path(str(whole["results_dir"]), "prune")))
    return found


def arguments(options: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Arguments of ``onnxprune prune`` for options of TAO's prune, and what a user should know.

    Raises
    ------
    UsageError
        See :func:`settings`.
    """
    chosen = settings(options)
    model, output = str(options["model"]), str(options["output"])
    given = [model, "-o", placed(model, output), "--preset", "tao"]
    for name, value in chosen.items():
        for one in value if isinstance(value, list) else [value]:
            given += [f"--{name.replace('_', '-')}", str(one)]
    return given, [KEY] if options.get("key") else []


def settings(options: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of :func:`onnxprune.prune` for options of TAO's prune, beside its preset.

    Parameters
    ----------
    options : mapping
        ``model`` and ``output``, and any of the keys of ``SETTINGS``, ``excluded_layers``, ``key`` and
        ``network``; None and what is missing are TAO's defaults.

    Raises
    ------
    UsageError
        If the model is a file that only TAO reads, or a value is impossible.
    """
    model, output = (str(options.get(name) or "") for name in ("model", "output"))
    for name, value, flag in (("model", model, "-m"), ("output", output, "-o")):
        if not value:
            raise UsageError(f"found no {name}, expected one", f"Give it with {flag}, or in the spec.")
    if Path(model).suffix.lower() in OWN:
        raise UsageError(
            f"'{model}' holds no ONNX graph: only TAO and its framework read it",
            "Export it with TAO's export, and give the .onnx file.",
        )
    _one_of("normalizer", options, NORMALIZERS)
    _one_of("equalization_criterion", options, CRITERIA)
    given = {name: value for name, value in options.items() if value is not None}
    given.setdefault("min_num_filters", LEAST.get(str(options.get("network"))))
    chosen = {ours: given[name] for name, ours in SETTINGS.items() if given.get(name) is not None}
    return {**chosen, "exclude": listed(options.get("excluded_layers"))}


def _one_of(name: str, options: Mapping[str, Any], known: Sequence[str]) -> None:
    """Refuse another word, however ours are spelled."""
    value = options.get(name)
    if value is None:
        return
    plain = str(value).replace("-", "_").lower()
    ours = {"none": "off", "tao_l2": "L2"}.get(plain, plain)
    if ours.lower() not in {word.lower() for word in known}:
        raise unknown_name(f"value of {name}", str(value), known)


def listed(value: Any) -> list[str]:
    """Names in a list, or in a text with commas, spaces or brackets."""
    if value is None:
        return []
    if isinstance(value, str):
        return [name for part in value.strip("[] ").split(",") for name in part.strip("'\" ").split()]
    return [str(name) for name in value]


def placed(model: str, output: str) -> str:
    """The file that is written: in a folder, it is called like the model."""
    path = Path(output)
    return str(path if path.suffix == ".onnx" else path / f"{Path(model).stem}.onnx")
