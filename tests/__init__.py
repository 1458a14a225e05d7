"""Imported before any test. No test reads or writes a person's own cache and token of the Hub: set before its client is
imported, and handed on to the processes that tests start."""

import os
import tempfile

_home = tempfile.TemporaryDirectory()
os.environ |= {"HF_HOME": _home.name, "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
for _name in ("HF_TOKEN", "HF_ENDPOINT", "HF_HUB_OFFLINE", "HF_HUB_CACHE", "MODEL_REPO", "MODEL_REVISION"):
    os.environ.pop(_name, None)
