"""Compiles checkpoints by the export route; runs in the environment of `exports.py`.

Arguments: the cache, and the checkpoints' folders.
"""

from __future__ import annotations

import sys
from pathlib import Path

from models.compile import compile_checkpoint

for source in sys.argv[2:]:
    compile_checkpoint(
        source, cache_dir=Path(sys.argv[1]), say=lambda line: print(line, file=sys.stderr), route="export"
    )
