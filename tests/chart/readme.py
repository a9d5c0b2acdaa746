"""The table of values in the chart's README, written from the comments of values.yaml by Bitnami's generator.

`python -m tests.chart.readme` (make chart-docs) writes it anew.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.chart.helm import CHART
from tests.clients.environments import Node

GENERATOR = Node("chart-readme", ("@bitnami/readme-generator-for-helm@2.7.2",))
README, VALUES = CHART / "README.md", CHART / "values.yaml"
SECONDS = 120


class Undocumented(Exception):
    """A value without a comment, or a comment without a value: the generator's words."""


def generated(values: Path = VALUES) -> str:
    """The README as it should be. Raises Undocumented."""
    program = GENERATOR.folder() / "node_modules" / ".bin" / "readme-generator"
    with TemporaryDirectory() as folder:
        copy = shutil.copy(README, folder)
        command = [str(program), "--values", str(values), "--readme", copy]
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
        if done.returncode:
            raise Undocumented(f"{done.stdout}\n{done.stderr}".strip())
        return Path(copy).read_text("utf-8")


if __name__ == "__main__":
    README.write_text(generated(), "utf-8")
