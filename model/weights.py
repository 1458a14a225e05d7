"""model.safetensors: the weights of a network, read strictly. Needs numpy and safetensors, no torch."""

import json
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from model.architecture import Architecture
from model.artifact import ArtifactError


def read_weights(path: Path, architecture: Architecture) -> dict[str, np.ndarray]:
    """Every tensor by its name. Raises ArtifactError unless the file holds exactly the names, shapes and dtypes of the
    architecture, all finite. Its size is looked at by who hands it over (`model.artifact.read`)."""
    try:
        found = load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError, AttributeError) as error:  # the last two: no such dtype
        reason = " ".join(str(error).split())[:200]
        raise ArtifactError(f"{path} is no intact safetensors file ({reason}); export the artifact again") from None
    expected = architecture.tensors()
    if strange := sorted(found.keys() ^ expected.keys()):
        raise ArtifactError(f"{path} does not fit config.json: it lacks or adds {json.dumps(strange)[1:200]}")
    for name, (shape, dtype) in expected.items():
        tensor = found[name]
        if (tensor.shape, tensor.dtype) != (shape, dtype):
            raise ArtifactError(
                f"{path} does not fit config.json: {name} is {tensor.dtype} {tensor.shape}, not {dtype} {shape}"
            )
        if not np.isfinite(tensor).all():
            raise ArtifactError(f"{path} holds a {name} that is not finite; export the artifact again")
    return found
