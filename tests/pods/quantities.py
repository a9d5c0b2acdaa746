"""Kubernetes' quantities: `250m` cores, `1Gi` bytes.

Format: Kubernetes' documentation of resource.Quantity (suffixes m, k, M, G, T, Ki, Mi, Gi, Ti, and decimal exponents).
"""

from __future__ import annotations

import re
from decimal import Decimal

_FORM = re.compile(r"([+-]?[0-9.]+(?:[eE][+-]?[0-9]+)?)(m|k|M|G|T|Ki|Mi|Gi|Ti)?")
_FACTORS = {"": Decimal(1), "m": Decimal("0.001")}
_FACTORS |= {unit: Decimal(1000) ** power for power, unit in enumerate("kMGT", start=1)}
_FACTORS |= {f"{unit}i": Decimal(1024) ** power for power, unit in enumerate("KMGT", start=1)}


def number(quantity: str | int | float) -> float:
    """Cores, or bytes. Raises ValueError."""
    found = _FORM.fullmatch(str(quantity))
    if not found:
        raise ValueError(f"{quantity!r} is no quantity of Kubernetes'")
    return float(Decimal(found[1]) * _FACTORS[found[2] or ""])
