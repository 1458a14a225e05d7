"""server/memory.py: the memory of a large image goes back to the system."""

import platform
import subprocess
import sys

import pytest

from tests.serving import ROOT

PROGRAM = """
from pathlib import Path

from server.memory import bound_malloc


def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


if BOUND:
    bound_malloc()
large = bytearray(24_000_000)
del large  # from now on, glibc has blocks of this size in its heap
before = resident()
block = bytearray(b"1") * 12_000_000
del block
print(resident() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library has no such thresholds")
@pytest.mark.parametrize("bound", [True, False])
def test_the_memory_of_a_large_image_goes_back_to_the_system(bound):
    program = PROGRAM.replace("BOUND", str(bound))
    answer = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert (int(answer.stdout) < 6_000_000) == bound
