"""Choice of each candidate's best option on the dev trials (docs/methods.md)."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from fv.data.prompt_kinds import ZERO_SHOT
from fv.evaluation.candidate import Candidate
from fv.evaluation.selection import best_option
from fv.interventions.engine import Engine
from fv.models.prompt import Prompt
from fv.vectors.options import Option, Options
from fv.vectors.stream import Stream


@dataclass(frozen=True)
class DevChoice:
    """Search for the best options of edits of one relation's prompts.

    Attributes:
        engine: the engine.
        prompts: {kind of prompt: the dev trials' prompts}.
        stream: the residual stream, to which strengths are relative.
    """

    engine: Engine
    prompts: Mapping[str, Sequence[Prompt]]
    stream: Stream

    def of(self, candidates: Sequence[Candidate]) -> dict[int, Option]:
        """Choose for the candidates that have a choice: {index of the candidate: its best option}.

        Refits have none, since they take the option of the condition that they are a refit of. All candidates with one
        kind of prompt share one search.
        """
        together: dict[str, dict[int, Options]] = defaultdict(dict)
        for i, one in enumerate(candidates):
            if one.options.choices and not one.refit_of:
                together[one.prompt][i] = one.options
        found: dict[int, Option] = {}
        for kind, options in together.items():
            found |= zip(options, self.best([*options.values()], kind), strict=True)
        return found

    def best(self, several: Sequence[Options], kind: str = ZERO_SHOT) -> list[Option]:
        """Best option of each of several options in one kind of prompt.

        It has the highest mean log probability of the target, ties to the earlier one. If none is better than the
        unedited prompt, it is `Options.without`.
        """
        edits = [edit for options in several for edit in options.edits(self.stream)]
        unedited, *means = self.engine.target_logprobs(self.prompts[kind], [None, *edits]).mean(0).tolist()
        left = iter(means)
        return [best_option(one, [*islice(left, len(one.choices))], unedited) for one in several]
