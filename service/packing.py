"""Which waiting entries make the next batch. Pure: no clock, no lock, no await.

The rule, in two sentences: the oldest entry always goes; the rest of the budget goes to the entries nearest to it
in length, because a batch costs its rows times its longest row. Taking the oldest first means that nobody starves.
"""

from __future__ import annotations

from collections.abc import Sequence

# Candidates looked at for one batch: bounds the work per batch, whatever the queue holds.
LOOKAHEAD = 512


def pack(lengths: Sequence[int], max_batch_tokens: int) -> list[int]:
    """`lengths` in order of arrival (never empty) → positions of the chosen, longest last.

    `len(chosen) * max(lengths[chosen]) <= max_batch_tokens`, unless the oldest alone is over it.
    """
    order = sorted(range(min(len(lengths), LOOKAHEAD)), key=lengths.__getitem__)
    below = above = order.index(0)  # order[below : above + 1] is the batch so far
    oldest = longest = lengths[0]
    while True:
        room = max_batch_tokens // (above - below + 2)
        shorter = lengths[order[below - 1]] if below > 0 and longest <= room else None
        longer = lengths[order[above + 1]] if above + 1 < len(order) else None
        if longer is not None and longer > room:
            longer = None
        if shorter is None and longer is None:
            return order[below : above + 1]
        if longer is None or (shorter is not None and oldest - shorter <= longer - oldest):
            below -= 1
        else:
            above += 1
            longest = longer


def padded_tokens(lengths: Sequence[int]) -> int:
    """What a batch of these rows costs."""
    return len(lengths) * max(lengths)
