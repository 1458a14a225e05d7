"""The demo that people write: `python -m benchmarks.plain_demo ARTIFACT_FOLDER PORT`.

`gr.Interface` with its default queue and launch, PyTorch in eager mode, one image at a time. The network's file and the
preprocessing are ours, so that only the serving differs.
"""

import sys

import gradio as gr
import torch

from model.artifact import read
from model.preprocess import preprocess
from model.resnet import ResNet

FOLDER, PORT = sys.argv[1], int(sys.argv[2])

network = ResNet.from_pretrained(FOLDER).eval()
class_names = read(FOLDER).config.class_names


def predict(image):
    with torch.no_grad():
        probabilities = network(torch.from_numpy(preprocess(image))[None]).softmax(dim=1)[0]
    return dict(zip(class_names, probabilities.tolist(), strict=True))


demo = gr.Interface(predict, gr.Image(type="pil"), gr.Label(num_top_classes=5))
demo.launch(server_name="127.0.0.1", server_port=PORT)
