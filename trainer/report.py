"""Metrics to pictures and prose: TensorBoard panels, figures, sample sheets and the model card."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw


def prediction_panel(
    images: np.ndarray,
    labels: Sequence[int],
    predicted: Sequence[int],
    class_names: Sequence[str],
    columns: int = 8,
    enlarge: int = 3,
) -> np.ndarray:
    """uint8 images (N, 32, 32, 3) as one captioned uint8 grid (H, W, 3): true class above, prediction below,
    green where it is right, red where it is wrong."""
    side = images.shape[1] * enlarge
    width, height = side + 12, side + 34
    rows = -(-len(images) // columns)
    panel = Image.new("RGB", (columns * width, rows * height), "white")
    draw = ImageDraw.Draw(panel)
    for i, (image, label, guess) in enumerate(zip(images, labels, predicted, strict=True)):
        x, y = i % columns * width + 6, i // columns * height + 2
        draw.text((x, y), class_names[label], fill="black")
        panel.paste(Image.fromarray(image).resize((side, side), Image.Resampling.NEAREST), (x, y + 13))
        draw.text((x, y + side + 14), class_names[guess], fill="#1a7f37" if guess == label else "#cf222e")
    return np.asarray(panel)
