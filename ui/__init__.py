"""The page: one Blocks, one file per tab. Needs gradio and the `model` package, never torch."""

import os

# Before gradio is imported: it reads them then. Without the second, its queue rebuilds a pandas table of all past calls
# on every call, and a call that does nothing grows from 12 to 40 ms after some thousand; it keeps 10,000 of them.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("GRADIO_ANALYTICS_CACHE_FREQUENCY", "100000")
os.environ.setdefault("GRADIO_ANALYTICS_MAX_EVENTS", "100")
