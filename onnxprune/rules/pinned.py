"""Operators that pin everything they touch, on purpose. Each says why."""

from __future__ import annotations

from ..model.operators import Trait, tell
from .registry import pinned

pinned(
    "MaxUnpool",
    why="its indices count all entries of the tensor, channels included",
    traits=Trait.SIZED_BY_VALUES,
)
pinned(
    "NonMaxSuppression",
    why="it compares boxes with each other and returns positions",
    traits=Trait.SIZED_BY_DATA,
)
pinned("NonZero", why="it returns positions along every axis", traits=Trait.SIZED_BY_DATA)
pinned("Unique", why="it compares entries with each other", traits=Trait.SIZED_BY_DATA)
pinned("Unique", domain="com.microsoft", why="it compares entries with each other")
pinned("ImageDecoder", why="it reads an encoded file")
pinned(
    "NegativeLogLikelihoodLoss",
    "SoftmaxCrossEntropyLoss",
    why="a loss compares every class with a label; export the model for inference",
)
pinned(
    "RegexFullMatch", "StringConcat", "StringNormalizer", "StringSplit", "TfIdfVectorizer",
    why="text has no channels",
)  # fmt: skip
pinned(
    "ArrayFeatureExtractor", "Binarizer", "CastMap", "CategoryMapper", "DictVectorizer",
    "FeatureVectorizer", "Imputer", "LabelEncoder", "LinearClassifier", "LinearRegressor", "Normalizer",
    "OneHotEncoder", "SVMClassifier", "SVMRegressor", "Scaler", "TreeEnsemble",
    "TreeEnsembleClassifier", "TreeEnsembleRegressor", "ZipMap",
    domain="ai.onnx.ml",
    why="a classical model numbers its features in its attributes",
)  # fmt: skip
pinned(
    "Adagrad",
    "Adam",
    "Gradient",
    "Momentum",
    domain="ai.onnx.preview.training",
    why="a training step; export the model for inference",
)
pinned(
    "FlexAttention",
    domain="ai.onnx.preview",
    why="the functions that change its scores may depend on the head",
)
pinned(
    "DisentangledAttention_TRT",
    "EfficientNMS_TRT",
    "MultilevelCropAndResize_TRT",
    "PyramidROIAlign_TRT",
    why="a TensorRT plug-in",
)
pinned(
    "DynamicSlice",
    "GRUUnit",
    "GivenTensorFill",
    "Scale",
    why="ONNX dropped it before version 1.5; export the model again",
)

tell(
    "",
    "DisentangledAttention_TRT",
    "EfficientNMS_TRT",
    "MultilevelCropAndResize_TRT",
    "PyramidROIAlign_TRT",
    traits=Trait.UNLISTED,
)  # TensorRT's
tell(
    "", "ATen", "ConstantFill", "DynamicSlice", "GRUUnit", "GivenTensorFill", "Scale", traits=Trait.UNLISTED
)  # of the first days of ONNX
