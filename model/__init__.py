"""All that is needed to use the network. Importing this needs no torch; only `model.resnet` does."""

from model.artifact import ArtifactError
from model.classifier import Classifier
from model.hub import HubError
from model.preprocess import PictureError, preprocess

__all__ = ["ArtifactError", "Classifier", "HubError", "PictureError", "preprocess"]
