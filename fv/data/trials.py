"""Trials as an object for notebooks: saved, read back, shown as a table, and used to make prompts."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any

import pandas as pd

from fv.characters import visible
from fv.config import TemplateConfig
from fv.data.encoder import with_tokenizer
from fv.data.relations import Pair
from fv.data.snapshot import Snapshot, read_snapshot, write_snapshot
from fv.data.templates import render
from fv.data.trial import Trial
from fv.errors import TrialError, shorten
from fv.markup import html_table, paragraph


@dataclass(frozen=True, eq=False)
class Trials(Mapping[str, "Trials"]):
    """Trials of one or several relations; `trials["antonym"]` has the trials of one.

    A trial is a query with demonstrations, right and wrong. Fit trials find heads and make vectors; held-out ones,
    whose queries no fit prompt shows, evaluate them.

    Attributes:
        snapshot: all data of the trials, the content of a run's `sampled_trials.json`.

    Example:
        >>> trials = fv.sample_trials({"antonym": pairs}, lm, demos=2, fit=2, held_out=2)
        >>> trials["antonym"].prompt("hot")
        'Q: hot\\nA:'
    """

    snapshot: Snapshot

    @property
    def template(self) -> TemplateConfig:
        """The template that turns pairs into text."""
        return self.snapshot.template

    @cached_property
    def _names(self) -> tuple[str, ...]:
        return tuple(self.snapshot.qids)

    def __getitem__(self, q_id: str) -> "Trials":
        if q_id not in self._names:
            raise KeyError(f"There are no trials of {q_id!r}; there are some of {shorten(list(self._names), 40)}.")
        return self if len(self._names) == 1 else Trials(self.snapshot.only([q_id]))

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    @property
    def fit(self) -> list[Trial]:
        """The trials that find heads and make vectors."""
        return [trial for trial in self.snapshot.trials if trial.split == "fit"]

    @property
    def held_out(self) -> list[Trial]:
        """The trials that evaluate vectors."""
        return [trial for trial in self.snapshot.trials if trial.split == "eval"]

    @property
    def table(self) -> pd.DataFrame:
        """A table with one row per trial: trial_id, q_id, split, input, output, and a column for each prompt."""
        columns = ["trial_id", "q_id", "split", "input", "output"]
        trials = self.snapshot.trials
        about = pd.DataFrame([(t.trial_id, t.q_id, t.split, *t.query) for t in trials], columns=columns)
        return about.join(pd.DataFrame([trial.prompts for trial in trials]))

    def under(self, template: str | TemplateConfig, lm: Any) -> "Trials":
        """Write all prompts in another template, with the same queries, demonstrations and wrong outputs.

        Args:
            template: a template by name (`qa`, `arrow`, …), or one of your own.
            lm: the model, or its tokenizer alone.

        Raises:
            ConfigError: there is no such template.
            TrialError: a prompt is longer than the model takes, an answer's tokens do not follow its prompt's or differ
                from prompt to prompt, or the tokenizer is another than that of the trials.

        Example:
            >>> trials.under("arrow", lm)["antonym"].prompt("hot")
            'hot →'
        """
        return Trials(self.snapshot.under(template, with_tokenizer(lm)))

    def with_prompt(self, name: str, shown: Callable[[Trial], Sequence[Pair]], lm: Any) -> "Trials":
        """Give every trial one more prompt: other demonstrations before the same query, in the same template.

        Args:
            name: the name of the prompt, an identifier; each trial then has it in `Trial.prompts`.
            shown: gives a trial's demonstrations for it.
            lm: the model, or its tokenizer alone.

        Raises:
            TrialError: the name is taken or no identifier, or as for `under`.

        Example:
            >>> more = trials.with_prompt("one_shot", lambda trial: trial.demos[:1], lm)
            >>> list(more.fit[0].prompts)
            ['clean', 'corrupted', 'zero_shot', 'one_shot']
        """
        return Trials(self.snapshot.with_prompt(name, shown, with_tokenizer(lm)))

    def prompt(self, text: str, demos: int = 0) -> str:
        """The prompt that asks for `text`, in the trials' template.

        Args:
            text: the query's input.
            demos: the number of right examples before it, from the first fit trial without `text` among its inputs.

        Raises:
            TrialError: `text` is empty or no text, or one relation's trials do not have so many demonstrations.
        """
        if not isinstance(text, str) or not text.strip():
            raise TrialError(f"text={text!r} must be the text that a prompt asks for, such as 'hot'.")
        shown = []
        if demos:
            if len(self) > 1:
                raise TrialError(f"demos={demos} are of one relation: say trials[{self._names[0]!r}].prompt(…).")
            usable = [t.demos for t in self.fit if text not in (t.query.exA, *(pair.exA for pair in t.demos))]
            most = max(map(len, usable), default=0)
            if not 0 < demos <= most:
                raise TrialError(f"demos={demos} must be from 0 to {most}, the demonstrations of a trial here.")
            shown = usable[0][:demos]
        return render(self.template, shown, text)

    def save(self, path: str | PathLike[str]) -> None:
        """Write the trials as JSON, in the form of a run's `sampled_trials.json`; `fv.load_trials` reads them."""
        write_snapshot(Path(path), self.snapshot)

    def __repr__(self) -> str:
        return visible(f"Trials({shorten([f'{q}: {self._counts(q)}' for q in self._names])})")

    def _counts(self, q_id: str) -> str:
        n_fit, n_eval = (len(self.snapshot.of(q_id, split)) for split in ("fit", "eval"))
        return f"{n_fit} fit, {n_eval} held out"

    def _repr_html_(self) -> str:
        counts = [(q_id, *(len(self.snapshot.of(q_id, split)) for split in ("fit", "eval"))) for q_id in self._names]
        example = self.snapshot.trials[0].zero_shot_prompt_str
        shown = html_table(("relation", "fit trials", "held-out trials"), counts)
        return shown + paragraph(f"Prompts end like {example!r}.")


def load_trials(path: str | PathLike[str]) -> Trials:
    """Read trials that `Trials.save` or a run wrote.

    Raises:
        ArtifactError: the file is missing, truncated, or not a snapshot of trials.

    Example:
        >>> trials.save(folder / "trials.json")
        >>> fv.load_trials(folder / "trials.json").snapshot == trials.snapshot
        True
    """
    return Trials(read_snapshot(Path(path)))
