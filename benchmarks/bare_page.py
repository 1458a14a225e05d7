"""What a demo with PyTorch costs before it holds anything but a line: `python -m benchmarks.bare_page PORT`."""

import sys

import gradio as gr
import torch  # noqa: F401  # its cost is what is measured

with gr.Blocks() as page:
    gr.Markdown("A page.")
page.launch(server_name="127.0.0.1", server_port=int(sys.argv[1]))
