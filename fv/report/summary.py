"""Summary: look-ups in `eval_summary.json` for the closing tables."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from fv.evaluation.eval_summary import Contrast, Difference, Estimate, EvalSummary
from fv.evaluation.tables import ALL, NO_VECTOR
from fv.tables import TableRow
from fv.vectors.kinds import OF_AIE, OWN, kind_of
from fv.vectors.names import source_name


@dataclass(frozen=True)
class Summary:
    """Contents of `eval_summary.json`, with look-ups.

    Attributes:
        values: the contents.
    """

    values: EvalSummary

    @property
    def has_held_out(self) -> bool:
        """Tell whether controls and baselines were run."""
        return bool(self.values.held_out)

    @cached_property
    def chosen(self) -> list[TableRow]:
        """Chosen cell of each vector and relation; vectors of several k in ascending order of k."""
        return sorted(self.values.chosen, key=lambda row: (row["fv_source"], row["k"] or 0, row["eval_qid"]))

    @cached_property
    def compared(self) -> list[TableRow]:
        """Rows of `chosen` that are compared with baselines.

        These are vectors of no relation, and each relation's own vector on this relation. A vector of the AIE's heads
        counts only if the relation has no other.
        """
        own = [row for row in self.chosen if not kind_of(row["fv_kind"]).of_relation or is_in_domain(row)]
        by_own_heads = {row["eval_qid"] for row in own if row["fv_kind"] == OWN.name}
        return [row for row in own if row["fv_kind"] != OF_AIE.name or row["eval_qid"] not in by_own_heads]

    def name_of(self, row: TableRow) -> str:
        """Name of the relation of a row of `compared`, with its vector if there are several."""
        there = [other for other in self.compared if other["eval_qid"] == row["eval_qid"]]
        return row["eval_qid"] if len(there) == 1 else vector_name_of(row)

    @property
    def n_cells(self) -> int:
        """Number of cells to choose from."""
        return len(self.values.layers) * len(self.values.alphas)

    @cached_property
    def _leads(self) -> dict[str, str]:
        return {str(row["eval_qid"]): str(row["lead_metric"]) for row in self.values.relations}

    @cached_property
    def _held_out(self) -> dict[tuple[str, str, str], list[Mapping[str, Estimate]]]:
        found: dict[tuple[str, str, str], list[Mapping[str, Estimate]]] = defaultdict(list)
        for means in self.values.held_out:
            if means.subset == ALL:
                found[means.condition, means.eval_qid, means.fv].append(means.metrics)
        return found

    @cached_property
    def _contrasts(self) -> dict[tuple[str, str, str], Contrast]:
        return {
            (contrast.eval_qid, contrast.fv, contrast.minus): contrast
            for contrast in self.values.contrasts
            if (contrast.condition, contrast.subset) == ("fv", ALL)
        }

    @cached_property
    def headline(self) -> dict[tuple[str, str], TableRow]:
        """{(vector, relation): its row of `headline.csv`}; empty if no conditions were run."""
        return {(str(row["fv"]), str(row["eval_qid"])): row for row in self.values.headline}

    def lead(self, q_id: str) -> str:
        """Metric that counts a relation's right answers: `top1`, or `exact_match` if first tokens collide."""
        return self._leads.get(q_id, "top1")

    def answered(self, row: TableRow) -> tuple[float, float]:
        """Shares of test trials that are answered right without and with a chosen vector, counted by `lead`."""
        q_id = row["eval_qid"]
        if (metric := self.lead(q_id)) == "top1":
            return row["baseline_accuracy"], row["injected_accuracy"]
        found = self.metrics("zero_shot", q_id), self.metrics("fv", q_id, row["fv"])
        before, after = (metrics[0][metric].mean for metrics in found)
        return before, after

    def metrics(self, condition: str, q_id: str, fv: str = NO_VECTOR) -> list[Mapping[str, Estimate]]:
        """Metrics of each draw of a condition."""
        return self._held_out.get((condition, q_id, fv), [])

    def minus(self, row: TableRow, control: str, metric: str = "logprob") -> Difference | None:
        """Effect of a chosen vector minus a control's; None if it is missing."""
        found = self._contrasts.get((row["eval_qid"], row["fv"], control))
        return found.metrics[metric] if found else None


def is_in_domain(row: TableRow) -> bool:
    """Tell whether the row's vector is evaluated on its own relation."""
    kind = kind_of(row["fv_kind"])
    return kind.of_relation and row["fv_source"] == source_name(kind.name, row["eval_qid"])


def vector_name_of(row: TableRow) -> str:
    """Name of a row's vector, with the relation that it is evaluated on if this is not its own."""
    return row["fv"] if is_in_domain(row) else f"{row['fv']} → {row['eval_qid']}"
