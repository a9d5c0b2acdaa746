"""What tests ask a device, and the texts that they send it."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from service.device_name import DeviceName
from service.runtime.preflight import gpu_name
from service.runtime.session import runtime_version
from service.tuning import this_machine

MIB = 1 << 20
TOLERANCE = 64 * MIB  # of a device's memory
CLIENTS = 32

_WORDS = "cat dog sun sea tree bird rain snow wind fire stone river night king house road green book hand apple"
_SMI = ("nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits")


def text(words: int, seed: int = 0) -> str:
    """So many words of one token each, drawn at random: two texts of a length have different vectors."""
    return " ".join(random.Random(f"{seed} {words}").choices(_WORDS.split(), k=words))


def hardware(device: DeviceName) -> str:
    """Its own name."""
    return gpu_name(device) or this_machine(runtime_version()).cpu


def memory_used(device: DeviceName, pid: int) -> int:
    """Bytes: of a CPU those of the process; of GPUs what all have given to anybody, as containers hide processes from
    nvidia-smi, and it may count devices in another order than CUDA. So nothing else may run there."""
    if device.kind == "cpu":
        (kib,) = re.findall(r"^VmRSS:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text("ascii"), re.M)
        return int(kib) * 1024
    if shutil.which(_SMI[0]) is None:
        pytest.skip("nvidia-smi is not here to tell the memory used")
    said = subprocess.run(_SMI, capture_output=True, text=True, timeout=30, check=True).stdout.split()
    if not all(one.isdecimal() for one in said):
        pytest.skip(f"nvidia-smi does not tell the memory used: {' '.join(said)}")
    return sum(map(int, said)) * MIB
