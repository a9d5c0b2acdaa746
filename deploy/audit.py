"""What is known against the locked packages: python -m deploy.audit PIP_AUDIT LOCK…

Exit status 0: nothing is known; 1: something is, one line each; 3: the database could not be asked, which proves
nothing.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

_SECONDS = 300
NOTHING_KNOWN, FOUND, NOT_ASKED = 0, 1, 3


class Verdict(NamedTuple):
    """`findings` are lines for people; `asked` of `packages` were looked up."""

    packages: int
    asked: int
    findings: tuple[str, ...]
    trouble: str = ""

    @property
    def status(self) -> int:
        """The exit status. A package that was not looked up may not pass for one without findings."""
        if self.findings:
            return FOUND
        return NOTHING_KNOWN if 0 < self.asked == self.packages else NOT_ASKED

    def __str__(self) -> str:
        lines = [f"{self.asked} of {self.packages} packages looked up, {len(self.findings)} findings", *self.findings]
        if self.status == NOT_ASKED:
            lines.append(f"the database could not be asked, which proves nothing: {self.trouble or 'no answer'}")
        return "\n".join(lines)


def judge(report: Mapping[str, Any]) -> Verdict:
    """pip-audit's JSON. It takes a package that the index does not know for one without findings; this does not."""
    packages = report["dependencies"]
    asked = [one for one in packages if "skip_reason" not in one]
    skipped = [str(one["skip_reason"]) for one in packages if "skip_reason" in one]
    findings = tuple(
        f"{one['name']} {one['version']}: {known['id']}, mended in {', '.join(known['fix_versions']) or 'no version'}"
        for one in asked
        for known in one["vulns"]
    )
    return Verdict(len(packages), len(asked), findings, skipped[0] if skipped else "")


def ask(pip_audit: Path, lock: Path) -> Verdict:
    """Of the packages of a lock, as they are for this platform."""
    own = [str(pip_audit), "--requirement", str(lock), "--require-hashes", "--disable-pip"]
    quiet = ["--format", "json", "--progress-spinner", "off", "--timeout", "15"]
    try:
        done = subprocess.run([*own, *quiet], capture_output=True, text=True, timeout=_SECONDS, check=False)
        return judge(json.loads(done.stdout))
    except subprocess.TimeoutExpired:
        return Verdict(0, 0, (), f"no answer within {_SECONDS} s")
    except ValueError:
        lines = done.stderr.strip().splitlines()
        return Verdict(0, 0, (), lines[-1] if lines else f"exit status {done.returncode}")


def main(arguments: Sequence[str]) -> int:
    """The worst of the statuses; what was found weighs more than what could not be asked."""
    tool, *locks = map(Path, arguments)
    statuses = []
    for lock in locks:
        verdict = ask(tool, lock)
        print(f"{lock.name}: {verdict}")
        statuses.append(verdict.status)
    return FOUND if FOUND in statuses else max(statuses, default=NOT_ASKED)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
