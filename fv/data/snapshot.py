"""The snapshot of sampled trials, `sampled_trials.json`: all later steps read trials from it (spec section 5)."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict
from pathlib import Path

from pydantic import JsonValue, ValidationError, model_validator

from fv.characters import visible
from fv.config import TemplateConfig
from fv.data.collisions import first_token_collisions
from fv.data.encoder import Encoder, HasTokenizer
from fv.data.relations import Pair
from fv.data.rendering import RenderedPrompt, made_trial, rendered
from fv.data.snapshot_meta import Meta
from fv.data.strict_model import StrictModel
from fv.data.templates import template_of
from fv.data.trial import NamedPrompt, Trial
from fv.errors import ArtifactError, TrialError, shorten
from fv.files import read_json, write_json

SCHEMA_VERSION = 1


class Snapshot(StrictModel):
    """All trials of a run, sorted by relation, split and number."""

    meta: Meta
    trials: list[Trial]

    def __repr__(self) -> str:
        return visible(f"Snapshot({len(self.trials)} trials of {shorten(self.qids)})")

    __str__ = __repr__

    @model_validator(mode="after")
    def _ids_are_unique(self) -> "Snapshot":
        ids = [trial.trial_id for trial in self.trials]
        if len(set(ids)) != len(ids):
            raise ValueError("two trials have the same trial_id")
        return self

    @property
    def template(self) -> TemplateConfig:
        """The template of the prompts."""
        return TemplateConfig(**self.meta.template)

    def encoder(self, lm: HasTokenizer) -> Encoder:
        """The encoder of the prompts, by the tokenizer of a model."""
        return Encoder(lm, self.meta.add_special_tokens)

    def rendered(self, trial: Trial, lm: HasTokenizer) -> dict[str, RenderedPrompt]:
        """{kind of prompt: the prompt with its token ids and the spans of its tokens} of a trial of this snapshot.

        Raises:
            TrialError: a prompt's text is another than the template makes of the trial, so its parts are not known.

        Example:
            >>> prompts = snapshot.rendered(snapshot.trials[0], lm)
            >>> prompts["zero_shot"].spans[-1].token_class
            <TokenClass.last: 'last'>
        """
        found = rendered(trial, self.template, self.encoder(lm))
        if other := [kind for kind, text in trial.prompts.items() if found[kind].text != text]:
            raise TrialError(
                f"The {other[0]} prompt of the trial {trial.trial_id} is not written by the snapshot's template; "
                "Snapshot.under(template, lm) writes all prompts again."
            )
        return found

    def under(self, template: str | TemplateConfig, lm: HasTokenizer) -> "Snapshot":
        """Write all prompts in another template, with the same queries, demonstrations and wrong outputs.

        Args:
            template: a template, or the name of one.
            lm: the model, or another holder of the snapshot's tokenizer.

        Raises:
            ConfigError: there is no such template.
            TrialError: a prompt is longer than the model takes, an answer's tokens do not follow its prompt's or differ
                from prompt to prompt, or the tokenizer is another than the snapshot's.

        Example:
            >>> snapshot.under("arrow", lm).trials[0].zero_shot_prompt_str
            'hot →'
        """
        self.meta.refuse_other_tokenizer(lm)
        new, encoder = template_of(template), self.encoder(lm)
        trials = [_under(trial, new, encoder) for trial in self.trials]
        collisions = self.meta.first_token_collisions
        if new.target != self.template.target:
            # The relations' other outputs are not in a snapshot: only those that trials show are counted again.
            collisions = {q: first_token_collisions(self.pairs(q), new, encoder) for q in collisions}
        meta = self.meta.model_copy(update={"template": asdict(new), "first_token_collisions": collisions})
        return self.model_copy(update={"trials": trials, "meta": meta})

    def with_prompt(self, name: str, shown: Callable[[Trial], Sequence[Pair]], lm: HasTokenizer) -> "Snapshot":
        """Give every trial one more prompt, which shows the demonstrations `shown(trial)` before its query.

        Raises:
            TrialError: the name is taken or no identifier, or as for `under`.
        """
        if not name.isidentifier() or any(name in trial.prompts for trial in self.trials):
            raise TrialError(f"name={name!r} must be an identifier, and no trial may have a prompt of this name.")
        self.meta.refuse_other_tokenizer(lm)

        def with_it(trial: Trial) -> Trial:
            added = NamedPrompt(demos=[Pair(*pair) for pair in shown(trial)], prompt_str="")
            return trial.model_copy(update={"more_prompts": {**trial.more_prompts, name: added}})

        encoder = self.encoder(lm)
        trials = [_under(with_it(trial), self.template, encoder) for trial in self.trials]
        return self.model_copy(update={"trials": trials})

    def pairs(self, q_id: str) -> list[Pair]:
        """The distinct pairs that a relation's clean prompts show."""
        trials = (trial for trial in self.trials if trial.q_id == q_id)
        return list(dict.fromkeys(pair for trial in trials for pair in (trial.query, *trial.demos)))

    @property
    def qids(self) -> list[str]:
        """The relations that have trials, sorted."""
        return sorted({trial.q_id for trial in self.trials})

    def of(self, q_id: str, split: str, at_most: int | None = None) -> list[Trial]:
        """The trials of one relation and split, in order."""
        return [t for t in self.trials if t.q_id == q_id and t.split == split][:at_most]

    def evaluated(self, q_id: str, at_most: int | None = None) -> list[Trial]:
        """The trials of one relation that vectors are evaluated on, in order.

        If these are the fit trials (a shared split), a query may have several. Their zero-shot prompts are the same, so
        only the first trial of each query is taken.
        """
        trials = self.of(q_id, self.eval_split)
        if self.meta.split_policy == "shared":
            first: dict[Pair, Trial] = {}
            for trial in trials:
                first.setdefault(trial.query, trial)
            trials = list(first.values())
        return trials[:at_most]

    def only(self, qids: Collection[str]) -> "Snapshot":
        """The snapshot with the trials and records of the given relations only."""
        by_qid = ("counts", "rejections", "duplicates", "one_to_many", "first_token_collisions", "clusters")
        kept = {name: {q: value for q, value in getattr(self.meta, name).items() if q in qids} for name in by_qid}
        dropped = [q_id for q_id in self.meta.dropped_qids if q_id in qids]
        meta = self.meta.model_copy(update={**kept, "dropped_qids": dropped})
        return self.model_copy(update={"trials": [t for t in self.trials if t.q_id in qids], "meta": meta})

    @property
    def eval_split(self) -> str:
        """The split that vectors are evaluated on."""
        return "fit" if self.meta.split_policy == "shared" else "eval"


def _under(trial: Trial, template: TemplateConfig, encoder: Encoder) -> Trial:
    try:
        return made_trial(trial, template, encoder)
    except TrialError as error:
        raise TrialError(f"The trial {trial.trial_id} under the template {template.query!r}: {error}") from None


def write_snapshot(path: Path, snapshot: Snapshot) -> None:
    """Write `sampled_trials.json`."""
    write_json(path, snapshot.model_dump(mode="json"))


def parse_snapshot(value: JsonValue, path: Path) -> Snapshot:
    """Check a JSON value against the schema.

    Raises:
        ArtifactError: the value does not fit; names the file, the field and the reason.
    """
    try:
        return Snapshot.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "top level"
        raise ArtifactError(
            f"{path} is not a trial snapshot of schema {SCHEMA_VERSION}: {where}: {first['msg']} "
            f"({error.error_count()} problems in all)."
        ) from None


def read_snapshot(path: Path) -> Snapshot:
    """Read and check a snapshot.

    Raises:
        ArtifactError: the file is missing, truncated, or does not fit the schema.
    """
    return parse_snapshot(read_json(path), path)
