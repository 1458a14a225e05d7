"""Classifier: an artifact folder in, predictions out. The one engine for the page and for published metrics."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
from PIL import Image

from model import artifact, hub
from model.artifact import Artifact, ArtifactError, Config, Metrics
from model.hub import Source
from model.onnx_graph import build_graph
from model.predictions import read_predictions
from model.preprocess import preprocess
from model.weights import read_weights

BATCH = 250

Images = Sequence[Image.Image] | np.ndarray
"""A list of Pillow images, or uint8 (N, S, S, 3), or float32 (N, 3, S, S) in [0, 1]; S is 32 for CIFAR-10."""


@dataclass(frozen=True)
class Prediction:
    """What the network predicts for one image.

    probabilities     float32 (classes,), calibrated
    in_distribution   False: the image is probably none of the classes
    milliseconds      of the network's run, without decoding and resizing the image
    """

    probabilities: np.ndarray
    in_distribution: bool
    milliseconds: float

    def best(self, count: int) -> list[int]:
        """Labels, most probable first."""
        return [int(k) for k in np.argsort(-self.probabilities, kind="stable")[:count]]


class Classifier:
    """A trained network with its class names, preprocessing and calibration.

    class_names   in label order
    image_size    S: pixels along each side of what the network sees
    config        config.json (`model.artifact.Config`)
    metrics       metrics.json (`model.artifact.Metrics`), or None for a network that was not evaluated
    source        where it comes from; as a string "bundled", "folder:..." or "hub:user/repo@<sha>"
    folder        where the artifact lies: history.csv, predictions.csv, samples/

    threads       that one run of the network may use. One for serving: a second one gains little on a network this
                  small, and stalls when requests overlap.
    """

    config: Config
    metrics: Metrics | None

    def __init__(self, found: Artifact, source: Source, threads: int = 1):
        self.folder, self.config, self.metrics, self.source = found.folder, found.config, found.metrics, source
        self.class_names = self.config.class_names
        self.image_size = self.config.image_size
        path = self.folder / artifact.WEIGHTS
        weights = read_weights(path, self.config)
        self._class_weights = weights["fc.weight"]
        graph = build_graph(self.config, weights, self.image_size)
        del weights  # of the deepest network they take 80 MB, as does the graph, and what the session makes of it
        self._session = _session(graph, threads)
        artifact.check_answer(path, self.config, self._run(artifact.probe_image(self.image_size)))

    @classmethod
    def load(cls, source: str | Path | None = None, revision: str | None = None, threads: int = 1) -> "Classifier":
        """From an artifact folder, a repository "user/repo" of the Hub at a branch, tag or commit, or the bundled one.

        Where the Hub cannot be asked, what was pulled before of that revision is used, with a warning. Raises HubError
        where there is none, ArtifactError unless it is an intact artifact, ValueError for a revision of a folder.
        """
        return cls.from_artifact(*hub.find(source, revision), threads)

    @classmethod
    def from_artifact(cls, found: Artifact, source: Source, threads: int = 1) -> "Classifier":
        """The classifier of an artifact that was read. Raises ArtifactError where its network is not what it claims, or
        its predictions.csv not what its metrics.json counts."""
        try:
            read_predictions(found.folder, found.metrics)
            return cls(found, source, threads)
        except ArtifactError as error:
            raise hub.refusal(error, source) from None

    def predict(self, image: Image.Image, top_k: int | None = None, fit: str | None = None) -> list[tuple[str, float]]:
        """The `top_k` most probable (label, probability), most probable first; by default five, or all of fewer.

        `fit` says how an image that is not square becomes one (see `preprocess`), here and below; None: as config.json
        says. Raises ValueError unless 1 <= top_k <= number of classes, and for an unknown `fit`.
        """
        if top_k is None:
            top_k = min(5, len(self.class_names))
        if isinstance(top_k, bool) or not isinstance(top_k, int) or not 1 <= top_k <= len(self.class_names):
            raise ValueError(f"top_k is {top_k!r}; it must be a whole number from 1 to {len(self.class_names)}")
        (found,) = self.classify([image], fit)
        return [(self.class_names[k], float(found.probabilities[k])) for k in found.best(top_k)]

    def classify(self, images: Sequence[Image.Image], fit: str | None = None) -> list[Prediction]:
        """A `Prediction` of each image, from one run of the network, whose time `milliseconds` is."""
        arrays = self._to_array(images, fit)
        started = time.perf_counter()
        logits = self._run(arrays)
        milliseconds = (time.perf_counter() - started) * 1000
        rows = zip(self.calibrated(logits), self.is_in_distribution(logits), strict=True)
        return [Prediction(probabilities, bool(known), milliseconds) for probabilities, known in rows]

    def probabilities(self, images: Images, fit: str | None = None) -> np.ndarray:
        """float32 (N, classes), calibrated with the artifact's temperature; rows sum to 1."""
        return self.calibrated(self.logits(images, fit))

    def logits(self, images: Images, fit: str | None = None) -> np.ndarray:
        """float32 (N, classes), uncalibrated. An image's logits do not depend on the others in the call."""
        parts = [self._run(self._to_array(images[i : i + BATCH], fit)) for i in range(0, len(images), BATCH)]
        return np.concatenate(parts) if parts else np.empty((0, len(self.class_names)), np.float32)

    def calibrated(self, logits: np.ndarray) -> np.ndarray:
        """Logits (N, classes) as probabilities, float32 (N, classes): the softmax of logits / temperature."""
        return softmax(logits / self.config.temperature)

    def is_in_distribution(self, logits: np.ndarray) -> np.ndarray:
        """bool (N,) of logits (N, classes): False where an image is probably none of the classes.

        True where the highest logit is at least config.json's `threshold`, which 95% of the val images reach (see
        trainer.evaluate.fit_threshold), and everywhere for an older artifact, which has none.
        """
        threshold = self.config.threshold
        return logits.max(axis=1) >= (-np.inf if threshold is None else threshold)

    def activation_map(self, image: Image.Image, label: str, fit: str | None = None) -> np.ndarray:
        """Where the image speaks for the class `label`: float32 (S/4, S/4) in [0, 1], a number per 4x4 pixels of what
        the network sees.

        The class activation map (Zhou et al. 2016, https://arxiv.org/abs/1512.04150): the last feature maps, weighted
        as the linear layer weighs their means for the class; below zero is 0, the highest is 1. All zeros where nothing
        speaks for the class. Raises ValueError for a `label` that is no class name, and for an unknown `fit`.
        """
        return self.activation_maps(image, [label], fit)[0]

    def activation_maps(self, image: Image.Image, labels: Sequence[str], fit: str | None = None) -> list[np.ndarray]:
        """The `activation_map` of each of `labels`, from one run of the network. Raises what that raises."""
        if unknown := [label for label in labels if label not in self.class_names]:
            raise ValueError(f"label is {unknown[0]!r}; it must be one of {', '.join(self.class_names)}")
        features = self._run(self._to_array([image], fit), "features")[0]
        maps = []
        for label in labels:
            weights = self._class_weights[self.class_names.index(label)]
            evidence = np.maximum(np.tensordot(weights, features, axes=1), 0)  # (64,) and (64, S/4, S/4) -> (S/4, S/4)
            highest = evidence.max()
            maps.append(evidence / highest if highest > 0 else np.zeros_like(evidence))
        return maps

    def _run(self, images: np.ndarray, output: str = "logits") -> np.ndarray:
        """`logits` (N, classes), or `features`, the last feature maps (N, 64, S/4, S/4): float32."""
        return self._session.run([output], {"images": images})[0]

    def _to_array(self, images: Images, fit: str | None) -> np.ndarray:
        """float32 (N, 3, S, S) in [0, 1]. Raises ValueError for an array of another kind."""
        size = self.image_size
        if not isinstance(images, np.ndarray):
            return np.stack([preprocess(image, self.config.fit if fit is None else fit, size) for image in images])
        if images.dtype == np.uint8 and images.shape[1:] == (size, size, 3):
            return np.ascontiguousarray(images.transpose(0, 3, 1, 2)) / np.float32(255)
        if images.dtype == np.float32 and images.shape[1:] == (3, size, size):
            return images
        raise ValueError(
            f"images are {images.dtype} {images.shape}; give Pillow images, uint8 (N, {size}, {size}, 3) "
            f"or float32 (N, 3, {size}, {size}) in [0, 1]"
        )


def softmax(logits: np.ndarray) -> np.ndarray:
    """float32, over the last axis."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True), dtype=np.float64)
    return (shifted / shifted.sum(axis=-1, keepdims=True)).astype(np.float32)


def _session(graph: bytes, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Where cores are shared, threads that spin while they wait cost a tenth of the images per second; else nothing.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3  # errors only
    return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
