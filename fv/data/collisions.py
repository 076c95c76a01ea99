"""Collisions: outputs of a relation that share their first token, so that scores cannot tell them apart."""

from collections import Counter
from collections.abc import Iterable

from fv.config import TemplateConfig
from fv.data.encoder import Encoder
from fv.data.relations import Pair, normalise
from fv.data.snapshot_meta import Collisions
from fv.data.targets import zero_shot_targets
from fv.errors import TrialError

MAX_OUTPUTS_CHECKED = 2000


def first_token_collisions(pairs: Iterable[Pair], template: TemplateConfig, encoder: Encoder) -> Collisions:
    """Count the distinct outputs of a relation's pairs that share their first token with another output.

    Tokenises at most 2,000 outputs, each after its first input's zero-shot prompt; outputs that fail the boundary
    check there are left out.
    """
    outputs: dict[str, Pair] = {}
    for pair in pairs:
        outputs.setdefault(normalise(pair.exB), pair)
        if len(outputs) == MAX_OUTPUTS_CHECKED:
            break
    found = [ids for _, ids in zero_shot_targets(encoder, template, outputs.values())]
    counts = Counter(ids[0] for ids in found if not isinstance(ids, TrialError))
    colliding = sum(count for count in counts.values() if count > 1)
    total = counts.total()
    return Collisions(n_outputs=total, n_colliding=colliding, rate=colliding / total if total else 0.0)
