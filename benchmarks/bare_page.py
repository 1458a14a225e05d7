"""A Gradio page with one line of text that imports PyTorch: `python -m benchmarks.bare_page PORT`.

What every demo with PyTorch behind it costs before it holds anything: the page's start and memory are compared with it.
"""

import sys

import gradio as gr
import torch  # noqa: F401  # its cost is what is measured

with gr.Blocks() as page:
    gr.Markdown("A page.")

if __name__ == "__main__":
    page.launch(server_name="127.0.0.1", server_port=int(sys.argv[1]))
