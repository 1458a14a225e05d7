"""Classifier: an artifact folder in, predictions out. The one engine for the page and for published metrics."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from PIL import Image

from model import artifact, hub
from model.artifact import Artifact, ArtifactError
from model.graph import check_graph
from model.predictions import read_predictions
from model.preprocess import preprocess

BATCH = 250

Images = Sequence[Image.Image] | np.ndarray
"""A list of Pillow pictures, or uint8 (N, 32, 32, 3), or float32 (N, 3, 32, 32) in [0, 1]."""


class Classifier:
    """A trained network with its class names, preprocessing and calibration.

    class_names   in label order
    config        config.json as a dict
    metrics       metrics.json as a dict
    source        "bundled", "folder:..." or "hub:user/repo@<sha>"
    folder        where the artifact lies: history.csv, predictions.csv, samples/
    """

    def __init__(self, folder: Path, config: dict[str, Any], metrics: dict[str, Any], source: str):
        self.folder = folder
        self.config = config
        self.metrics = metrics
        self.source = source
        self.class_names: tuple[str, ...] = tuple(config["class_names"])
        self._class_weights = check_graph(folder / artifact.GRAPH, config, artifact.parameters(config))
        self._session = _session(folder / artifact.GRAPH)
        self._check_answers()

    @classmethod
    def load(cls, source: str | Path | None = None, revision: str | None = None) -> "Classifier":
        """From an artifact folder, a repository "user/repo" of the Hub at a branch, tag or commit, or the bundled one.

        Where the Hub cannot be asked, what was pulled before of that revision is used, with a warning. Raises HubError
        where there is none, ArtifactError unless it is an intact artifact, ValueError for a revision of a folder.
        """
        return cls.of(*hub.find(source, revision))

    @classmethod
    def of_snapshot(cls, snapshot: hub.Snapshot) -> "Classifier":
        """From a commit that was pulled. Raises ArtifactError."""
        return cls.of(hub.read(snapshot), snapshot.source)

    @classmethod
    def of(cls, found: Artifact, source: str) -> "Classifier":
        """The classifier of an artifact that was read. Raises ArtifactError where its network is not what it claims, or
        its predictions.csv not what its metrics.json counts."""
        try:
            read_predictions(found.folder, found.metrics)
            return cls(found.folder, found.config, found.metrics, source)
        except ArtifactError as error:
            raise hub.refusal(error, found.folder, source) from None

    def predict(self, image: Image.Image, top_k: int = 5, fit: str = "crop") -> list[tuple[str, float]]:
        """The `top_k` most probable (label, probability), most probable first.

        Raises ValueError unless 1 <= top_k <= number of classes, and for an unknown `fit` (see `preprocess`).
        """
        if isinstance(top_k, bool) or not isinstance(top_k, int) or not 1 <= top_k <= len(self.class_names):
            raise ValueError(f"top_k is {top_k!r}; it must be a whole number from 1 to {len(self.class_names)}")
        probabilities = self.probabilities([image], fit)[0]
        best = np.argsort(-probabilities, kind="stable")[:top_k]
        return [(self.class_names[i], float(probabilities[i])) for i in best]

    def probabilities(self, images: Images, fit: str = "crop") -> np.ndarray:
        """float32 (N, classes), calibrated with the artifact's temperature; rows sum to 1."""
        return self.calibrated(self.logits(images, fit))

    def logits(self, images: Images, fit: str = "crop") -> np.ndarray:
        """float32 (N, classes), uncalibrated. An image's logits do not depend on the others in the call."""
        parts = [self._run(_to_array(images[i : i + BATCH], fit)) for i in range(0, len(images), BATCH)]
        return np.concatenate(parts) if parts else np.empty((0, len(self.class_names)), np.float32)

    def calibrated(self, logits: np.ndarray) -> np.ndarray:
        """Logits (N, classes) as probabilities, float32 (N, classes): the softmax of logits / temperature."""
        return softmax(logits / self.config["temperature"])

    def recognises(self, logits: np.ndarray) -> np.ndarray:
        """bool (N,) of logits (N, classes): False where a picture is probably none of the classes.

        True where the highest logit is at least config.json's `threshold`, which 95% of the val images reach (see
        trainer.evaluate.fit_threshold), and everywhere for an older artifact, which has none.
        """
        return logits.max(axis=1) >= self.config.get("threshold", -np.inf)

    def activation_map(self, image: Image.Image, label: str, fit: str = "crop") -> np.ndarray:
        """Where the picture speaks for the class `label`: float32 (8, 8) in [0, 1], a number per 4x4 pixels of what
        the network sees.

        The class activation map (Zhou et al. 2016, https://arxiv.org/abs/1512.04150): the last feature maps, weighted
        as the linear layer weighs their means for the class; below zero is 0, the highest is 1. All zeros where nothing
        speaks for the class. Raises ValueError for a `label` that is no class name, and for an unknown `fit`.
        """
        return self.activation_maps(image, [label], fit)[0]

    def activation_maps(self, image: Image.Image, labels: Sequence[str], fit: str = "crop") -> list[np.ndarray]:
        """The `activation_map` of each of `labels`, from one run of the network. Raises what that raises."""
        if unknown := [label for label in labels if label not in self.class_names]:
            raise ValueError(f"label is {unknown[0]!r}; it must be one of {', '.join(self.class_names)}")
        features = self._features(_to_array([image], fit))[0]
        maps = []
        for label in labels:
            weights = self._class_weights[self.class_names.index(label)]
            evidence = np.maximum(np.tensordot(weights, features, axes=1), 0)  # (64,) and (64, 8, 8) -> (8, 8)
            highest = evidence.max()
            maps.append(evidence / highest if 0 < highest < np.inf else np.zeros_like(evidence))
        return maps

    def _run(self, images: np.ndarray) -> np.ndarray:
        return self._session.run(["logits"], {"images": images})[0]

    def _features(self, images: np.ndarray) -> np.ndarray:
        """The last feature maps, float32 (N, 64, 8, 8)."""
        return self._session.run(["features"], {"images": images})[0]

    def _check_answers(self) -> None:
        """A wrong or damaged network is refused before it answers anybody. The picture comes second of two, so that a
        graph which mixes the pictures of a batch does not pass. Between the two, logits must differ as the weighted
        means of the features do: else an activation map would not show what an answer comes from."""
        path, probe = self.folder / artifact.GRAPH, artifact.probe_image()
        expected = np.asarray([self.config["expected_logits"]], np.float32)
        pair = np.concatenate([probe[..., ::-1], probe])
        try:
            logits, features = self._run(pair), self._features(pair)
        except Exception as error:  # ONNX Runtime's exceptions share no other base
            raise ArtifactError(f"{path} cannot be run ({type(error).__name__}); export the artifact again") from None
        if not artifact.agrees(logits[1:], expected):
            raise ArtifactError(
                f"{path} does not answer as config.json expects: it is another network or damaged; export the artifact "
                "again"
            )
        evidence = features.mean((2, 3)) @ self._class_weights.T  # (2, 64, 8, 8) -> (2, classes), logits without bias
        if not artifact.agrees(logits, evidence - evidence[:1] + logits[:1]):
            raise ArtifactError(f"{path} has logits that do not come from its features; export the artifact again")


def softmax(logits: np.ndarray) -> np.ndarray:
    """float32, over the last axis."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True), dtype=np.float64)
    return (shifted / shifted.sum(axis=-1, keepdims=True)).astype(np.float32)


def _session(path: Path) -> ort.InferenceSession:
    """One thread: a second one gains little on a network this small and stalls when requests overlap."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors only
    try:
        session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions share no other base
        raise ArtifactError(f"{path} cannot be loaded by ONNX Runtime ({type(error).__name__})") from None
    return session


def _to_array(images: Images, fit: str) -> np.ndarray:
    """float32 (N, 3, 32, 32) in [0, 1]. Raises ValueError for an array of another kind."""
    if not isinstance(images, np.ndarray):
        return np.stack([preprocess(image, fit) for image in images])
    if images.dtype == np.uint8 and images.shape[1:] == (32, 32, 3):
        return np.ascontiguousarray(images.transpose(0, 3, 1, 2)) / np.float32(255)
    if images.dtype == np.float32 and images.shape[1:] == (3, 32, 32):
        return images
    raise ValueError(
        f"images are {images.dtype} {images.shape}; give Pillow pictures, uint8 (N, 32, 32, 3) "
        "or float32 (N, 3, 32, 32) in [0, 1]"
    )
