"""All that is needed to make the network. Never imports gradio."""

import os

# The Hub's client reads these when it is imported. The files are small: plain HTTP does, without bars.
os.environ.setdefault("HF_HUB_DISABLE_XET", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
