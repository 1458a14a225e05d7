"""All that is needed to use the network. Importing this needs no torch; only `model.resnet` does."""

import os

# Before ONNX Runtime is imported. From 1.29 on it reports to its makers, and writes a device ID into the home folder,
# unless this is set and not empty (https://github.com/microsoft/onnxruntime/blob/main/docs/Privacy.md).
os.environ["ORT_DISABLE_TELEMETRY"] = os.environ.get("ORT_DISABLE_TELEMETRY") or "1"

from model.artifact import ArtifactError
from model.classifier import Classifier
from model.hub import HubError
from model.preprocess import ImageError, preprocess

__all__ = ["ArtifactError", "Classifier", "HubError", "ImageError", "preprocess"]
