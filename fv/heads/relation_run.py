"""One relation in two stages: runs of its clean and zero-shot prompts, then effects on its corrupted ones.

Between the two, a screened run estimates effects and chooses heads (`fv.heads.screened_run`). Each stage is pieces of
whole batches of trials (`Engine.batches`), and what a piece gives is a unit. It depends on its prompts and what is
patched in, and on nothing else: neither on how the trials are cut nor on other relations.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from fv.config.model import ComputeConfig
from fv.config.score import ScoreConfig, Screen
from fv.data.sampling import prompt_of
from fv.data.snapshot import Snapshot
from fv.heads.activations import PromptOutputs, RelationMeans, mean_over_prompts
from fv.heads.indirect_effect import TrialEffects, effects_of_heads, places_of, query_numbers, trial_effects
from fv.heads.piece import Kind, Piece, PiecesMissingError, of_each, units_of
from fv.heads.stability import is_stable
from fv.heads.verified import fewest_verified
from fv.interventions.engine import SCORED, Advance, Head, LastToken, ScreeningEngine, TargetScores, ignore_progress
from fv.models.language_model import LanguageModel
from fv.models.prompt import Prompt
from fv.units import NO_UNITS, Arrays, UnitStore, array_of, digest_of_tensor

PROMPT_KINDS = ("clean", "corrupted", "zero_shot")
Compute = Callable[[Sequence[Prompt]], Arrays]
"""Runs the prompts of a unit."""
Estimate = Callable[[Sequence[Prompt], Tensor, Advance], Tensor]
"""Estimates effects: given prompts, the values that are patched in, (n_layers, n_heads, head_dim), and a progress
callback, those of each head on each prompt, (n_prompts, n_layers, n_heads)."""
EFFECTS = ("delta_logprob", "delta_p")
UNIT_TRIALS = 64
"""Trials that a unit holds, unless it is said otherwise."""
CORRUPTED = (*SCORED, "head_outputs")
"""What both patched and unpatched corrupted prompts tell."""


@dataclass(frozen=True)
class Begun:
    """What a relation's clean and zero-shot prompts tell, before heads are patched in its corrupted ones.

    Attributes:
        q_id: the relation.
        clean_mean: what is patched in, (n_layers, n_heads, head_dim).
        clean_outputs: the head outputs that it is the mean of, (n_averaged, n_layers, n_heads, head_dim).
        measured: the means of the clean and the zero-shot prompts beside it, by their names in `RelationMeans`.
        metrics: scores of the clean and the zero-shot prompts, (n_fit,).
        n_computed: prompts that had to be run.
    """

    q_id: str
    clean_mean: Tensor
    clean_outputs: Tensor
    measured: dict[str, Tensor]
    metrics: dict[str, TargetScores]
    n_computed: int


@dataclass(frozen=True)
class Unit:
    """What was measured of one relation.

    Attributes:
        effects: per patched trial and head.
        means: of head outputs and residual stream.
        metrics: per prompt kind, the fit trials' scores (n_fit,).
        n_computed: trials that had to be run; the rest was found finished.
    """

    effects: TrialEffects
    means: RelationMeans
    metrics: dict[str, TargetScores]
    n_computed: int

    @property
    def progress(self) -> str:
        """What a line of the log says of it."""
        return f"{self.effects.n_trials} trials done" if self.n_computed else "found finished"


@dataclass
class RelationRuns:
    """Computes relations from units, or finds them.

    Attributes:
        lm: the model.
        snapshot: the trials.
        heads: the heads to patch.
        engine: the engine.
        score: how many trials are patched, and when a ranking is stable.
        seed: of the draws that tell how stable it is.
        n_mean_trials: fit trials whose prompts are averaged; None for all.
        unit_trials: about how many trials a unit holds.
        keep_mb: megabytes of prompts that are kept between their estimates and their effects.
        store: finished units, to read and to add to.
        advance: progress callback, called with trials patched.
        looking: whether units are looked for only: where some are missing, `PiecesMissingError` names them.
    """

    lm: LanguageModel
    snapshot: Snapshot
    heads: Sequence[Head]
    engine: ScreeningEngine
    score: ScoreConfig
    seed: int
    n_mean_trials: int | None = None
    unit_trials: int = UNIT_TRIALS
    store: UnitStore = NO_UNITS
    keep_mb: int = ComputeConfig.keep_mb
    advance: Advance = ignore_progress
    looking: bool = False

    @property
    def n_patched(self) -> int:
        """Trials of all relations that are patched at most."""
        return sum(len(self.snapshot.of(q_id, "fit", self.score.n_trials)) for q_id in self.snapshot.qids)

    def relation(self, q_id: str) -> Unit:
        """Run one relation's fit trials, both stages."""
        return self.sweep(self.begin(q_id))

    def compute(self, piece: Piece, begun: Begun | None = None, estimate: Estimate | None = None) -> None:
        """Compute a piece's unit into the store, unless it is there.

        Args:
            piece: one of those that `PiecesMissingError` named.
            begun: the relation's first stage, which all but that stage's own pieces need.
            estimate: what estimates effects, where the piece asks for it.
        """
        runs = replace(self, heads=piece.heads or self.heads)
        if begun is None:
            runs._first(piece, [])
        elif piece.kind is Kind.screen:
            assert estimate is not None
            runs._estimated(begun, piece, estimate)
        elif piece.kind is Kind.effects:
            runs._patched(begun, piece, [])
        else:
            runs._units(piece, runs._run_corrupted, [])

    def begin(self, q_id: str) -> Begun:
        """Run its clean and zero-shot prompts."""
        averaged = slice(self.n_mean_trials)
        computed: list[int] = []
        first = of_each((Kind.clean, Kind.zero_shot), lambda kind: self._first(Piece(kind, q_id), computed))
        clean, zero_shot = first[Kind.clean], first[Kind.zero_shot]
        outputs, *others = (
            torch.from_numpy(array)
            for array in (
                clean["head_outputs"][averaged],
                clean["residual"][averaged],
                zero_shot["residual_norm"],
                zero_shot["head_outputs"][averaged],
                zero_shot["residual"][averaged],
            )
        )
        residual, norm, zero_shot_heads, zero_shot_residual = map(mean_over_prompts, others)
        measured = {
            "residual": residual,
            "residual_norm": norm.float(),
            "zero_shot": zero_shot_heads,
            "zero_shot_residual": zero_shot_residual,
        }
        metrics = {"clean": _scores(clean), "zero_shot": _scores(zero_shot)}
        return Begun(q_id, mean_over_prompts(outputs), outputs, measured, metrics, sum(computed))

    def estimates(self, begun: Begun, estimate: Estimate) -> np.ndarray:
        """Estimated effects of every head on the trials that may be patched, (n_trials, n_layers, n_heads).

        Args:
            begun: the relation's first stage.
            estimate: what estimates them as `score` says.
        """
        return self._estimated(begun, Piece(Kind.screen, begun.q_id, stop=self.score.n_trials), estimate)["score"]

    def sweep(self, begun: Begun) -> Unit:
        """Patch the heads.

        Where `score` is adaptive, trials are patched `adaptive_step` at a time until the top-k heads are stable.
        """
        score, q_id = self.score, begun.q_id
        n_trials = len(self.prompts(Piece(Kind.effects, q_id)))
        computed = [begun.n_computed]
        most = min(score.n_trials or n_trials, n_trials)
        step = score.adaptive_step if score.adaptive else most
        patched: list[Arrays] = []
        done = 0
        while done < most and not (patched and is_stable(self._effects(q_id, _joined(patched)), score, self.seed)):
            stop = min(done + step, most)
            patched.append(self._patched(begun, self._effects_piece(q_id, done, stop), computed))
            done = stop
        rest = Piece(Kind.corrupted, q_id, done, n_trials)
        unpatched = [self._units(rest, self._run_corrupted, computed)] if done < n_trials else []
        self.advance(most - done)
        corrupted = _joined([{key: part[key] for key in CORRUPTED} for part in (*patched, *unpatched)])
        outputs = torch.from_numpy(corrupted["head_outputs"][: self.n_mean_trials])
        prompts = PromptOutputs(begun.clean_outputs, outputs)
        means = RelationMeans(begun.clean_mean, mean_over_prompts(outputs), **begun.measured, prompts=prompts)
        of_kind = {**begun.metrics, "corrupted": _scores(corrupted)}
        metrics = {kind: of_kind[kind] for kind in PROMPT_KINDS}
        return Unit(self._effects(q_id, _joined(patched)), means, metrics, sum(computed))

    def sweep_more(self, begun: Begun, unit: Unit) -> Unit:
        """A unit with effects of the heads at hand, too, on the trials that it has effects of."""
        computed = [unit.n_computed]
        piece = self._effects_piece(begun.q_id, 0, unit.effects.n_trials)
        more = self._effects(begun.q_id, self._patched(begun, piece, computed))
        return replace(unit, effects=unit.effects.with_heads_of(more), n_computed=sum(computed))

    def _effects_piece(self, q_id: str, start: int, stop: int) -> Piece:
        every = self.score.screen is Screen.none
        return Piece(Kind.effects, q_id, start, stop, () if every else tuple(self.heads))

    def _first(self, piece: Piece, computed: list[int]) -> Arrays:
        """What clean or zero-shot prompts tell."""
        return self._units(piece, self._run_clean if piece.kind is Kind.clean else self._run_zero_shot, computed)

    def _estimated(self, begun: Begun, piece: Piece, estimate: Estimate) -> Arrays:
        """Estimated effects of all heads on some corrupted prompts."""

        def run(prompts: Sequence[Prompt]) -> Arrays:
            batches = [prompts[part] for part in self.engine.batches(prompts, rows_each)]
            found = [estimate(batch, begun.clean_mean, self.advance) for batch in batches]
            return {"score": array_of(torch.cat(found))}

        # The batches of the sweep that follows, unless it has far more heads: what was kept is found by its batch.
        rows_each = 1 + fewest_verified(len(self.heads), self.score.n_verify, self.score.verify_random)
        method = f"{self.score.screen.value} {self.score.points}"
        return self._units(piece, run, [], rows_each, f"{method} {digest_of_tensor(begun.clean_mean)}", shown=True)

    def _patched(self, begun: Begun, piece: Piece, computed: list[int]) -> Arrays:
        """Effects of the heads on some corrupted prompts, and what these tell unedited."""
        inputs = f"{digest_of_tensor(begun.clean_mean)} {[tuple(head) for head in self.heads]}"
        patch, rows_each = self._patching(begun.clean_mean), 1 + len(self.heads)
        return self._units(piece, patch, computed, rows_each, inputs, shown=True)

    def prompts(self, piece: Piece) -> list[Prompt]:
        """The prompts of a piece."""
        trials = self.snapshot.of(piece.q_id, "fit")[piece.start : piece.stop]
        return [prompt_of(self.lm, self.snapshot, trial, piece.kind.prompts) for trial in trials]

    def _units(
        self,
        piece: Piece,
        compute: Compute,
        computed: list[int],
        rows_each: int = 1,
        inputs: str = "",
        shown: bool = False,
    ) -> Arrays:
        """What `compute` gives for all prompts of a piece, unit by unit; `computed` collects how many had to be run.

        With `shown`, found units advance the progress; `compute` itself advances it for others.
        """
        found, missing, prompts = [], [], self.prompts(piece)
        for part in units_of(self.engine.batches(prompts, rows_each), self.unit_trials):
            made_from = [inputs, [[p.token_ids, p.target] for p in prompts[part]]]
            if (arrays := self.store.find(piece.name, made_from)) is None:
                if self.looking:
                    missing.append(piece.part(part))
                    continue
                arrays = compute(prompts[part])
                self.store.keep(piece.name, made_from, arrays)
                computed.append(part.stop - part.start)
            elif shown:
                self.advance(part.stop - part.start)
            found.append(arrays)
        if missing:
            raise PiecesMissingError(missing)
        return _joined(found)

    def _run_clean(self, prompts: Sequence[Prompt]) -> Arrays:
        run = self.engine.last_token(prompts)
        return _score_arrays(run) | {"head_outputs": array_of(run.head_outputs), "residual": array_of(run.residual)}

    def _run_zero_shot(self, prompts: Sequence[Prompt]) -> Arrays:
        run = self.engine.last_token(prompts)
        outputs = {"head_outputs": array_of(run.head_outputs), "residual": array_of(run.residual)}
        return _score_arrays(run) | outputs | {"residual_norm": array_of(run.residual.double().norm(dim=-1))}

    def _run_corrupted(self, prompts: Sequence[Prompt]) -> Arrays:
        run = self.engine.last_token(prompts)
        return _score_arrays(run) | {"head_outputs": array_of(run.head_outputs)}

    def _patching(self, clean_mean: Tensor) -> Compute:
        layers, heads = places_of(self.heads)

        def run(prompts: Sequence[Prompt]) -> Arrays:
            effects, unedited = trial_effects(self.engine, prompts, clean_mean, self.heads, self.advance)
            own = {name: getattr(effects, name)[:, layers, heads] for name in EFFECTS}
            return _score_arrays(unedited) | {"head_outputs": array_of(unedited.head_outputs)} | own

        return run

    def _effects(self, q_id: str, arrays: Arrays) -> TrialEffects:
        """Effects on the whole grid of heads from those of the swept ones, (n_trials, n_swept)."""
        logprob, p = (arrays[name] for name in EFFECTS)
        queries = query_numbers(self.snapshot.of(q_id, "fit", len(p)))
        return effects_of_heads(logprob, p, self.heads, (self.lm.n_layers, self.lm.n_heads), queries)


def _joined(parts: Sequence[Arrays]) -> Arrays:
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def _score_arrays(run: LastToken) -> Arrays:
    return {name: getattr(run.scores, name).numpy() for name in SCORED}


def _scores(arrays: Arrays) -> TargetScores:
    return TargetScores(**{name: torch.from_numpy(arrays[name]) for name in SCORED})
