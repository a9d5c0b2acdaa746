"""What models are called in public: a name, more names, and that of what they were made from. Pure.

No name is answered by two models: it would depend on their order which vectors come back, all of them with status 200.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from service.errors import StartupError


@dataclass(frozen=True, slots=True)
class Claim:
    """What a model wants to be called. `model_id` is what it was made from, None where that is not known yet."""

    name: str | None
    aliases: Sequence[str]
    model_id: str | None = None

    @property
    def own(self) -> str:
        """Without a name, the last part of what it was made from."""
        return self.name or (self.model_id or "").rstrip("/").rpartition("/")[2]

    @property
    def asked(self) -> list[str]:
        """The names that somebody gave it, each once."""
        return list(dict.fromkeys([self.own, *self.aliases]))


def assign(claims: Sequence[Claim]) -> list[list[str]]:
    """The names of each model, its own first. Raises StartupError where two claim the same.

    `model_id` is a name as well, of which nobody is to know: where it would be that of two models, it is of neither.
    """
    owners: dict[str, str] = {}
    for claim in claims:
        for name in claim.asked:
            if name in owners:
                reason = f"the name {name!r} is claimed by two models: {owners[name]} and {_known(claim)}"
                raise StartupError(reason, 'give each its own name and aliases: name = "…", aliases = ["…"]')
            owners[name] = _known(claim)
    made_from = Counter(claim.model_id for claim in claims)
    return [[*claim.asked, *_extra(claim, owners, made_from[claim.model_id])] for claim in claims]


def _extra(claim: Claim, taken: dict[str, str], of_so_many: int) -> list[str]:
    free = claim.model_id is not None and of_so_many == 1 and claim.model_id not in taken
    return [claim.model_id] if free and claim.model_id else []


def _known(claim: Claim) -> str:
    made_from = f" ({claim.model_id})" if claim.model_id and claim.model_id != claim.own else ""
    return f"{claim.own}{made_from}"
