"""Looking at relation data: list it, check it against a tokenizer, show prompts. Prints; writes no artifact."""

import logging
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table as ConsoleTable

from fv.config import Config
from fv.data.checks import Finding, check_rows
from fv.data.collector import paused_collector
from fv.data.relations import bad_rows, read_relations, read_rows, relations_of
from fv.data.rows import Row, place
from fv.data.token_text import shown_token
from fv.errors import ConfigError, RelationError, TrialError

if TYPE_CHECKING:
    from fv.data.corruption_report import CorruptionReport
    from fv.data.token_check import TokenReport
    from fv.models.language_model import LanguageModel

log = logging.getLogger(__name__)
MAX_SHOWN = 20
"""Findings of one kind that are shown for a relation; the others are counted."""


def run_list(config: Config) -> None:
    """Print every relation with its counts.

    Raises:
        RelationError: the data cannot be read.
    """
    _refuse_replay(config)
    file = read_relations(config.data)
    columns = ("relation", "pairs", "distinct inputs", "distinct outputs", "duplicates", "ambiguous inputs")
    rows = [
        (
            relation.q_id,
            len(relation.pairs),
            len({pair.exA for pair in relation.pairs}),
            len({pair.exB for pair in relation.pairs}),
            relation.n_duplicates,
            relation.n_one_to_many,
        )
        for relation in file.relations
    ]
    _print_table(f"{file.path}", columns, rows)
    print(f"{len(rows)} relations, {sum(row[1] for row in rows)} pairs")


def run_check(config: Config) -> None:
    """Print everything suspicious in the data, as text and to the model's tokenizer.

    Raises:
        RelationError: StepD would refuse the data as configured.
    """
    _refuse_replay(config)
    table = read_rows(config.data)
    refusals = [bad_rows(table, len(table.bad))] if table.bad else []
    if not table.rows and refusals:
        raise RelationError(refusals[0])
    file = relations_of(table, config.data.qids)
    wanted = {relation.q_id for relation in file.relations}
    rows = [row for row in table.rows if row.q_id in wanted]
    # Here and not above: torch comes with these, and a table that cannot be read needs none.
    from fv.data.encoding import Encoder
    from fv.data.token_check import check_tokens
    from fv.models.tokenizer import load_tokenizer

    lm = load_tokenizer(config.model)
    encoder = Encoder(lm, _special_tokens(lm, config), config.model.called("add_special_tokens"))
    reports = [check_tokens(relation, config.data, config.seed, encoder) for relation in file.relations]
    _print_reports(f"{file.path} for {lm.name}", reports)
    corruption = [report.corruption for report in reports if report.corruption]
    _print_corruption(corruption, config.data.called("corruption"))
    _print_findings([*check_rows(rows), *_token_findings(rows, reports)])
    if config.data.strict:
        refusals += [f"{line} (data.strict=true)" for line in file.warnings()]
    starved = [report.refusal for report in reports if report.refusal]
    if not config.data.allow_drop or len(starved) == len(reports):
        refusals += starved
    if refusals:
        raise RelationError("StepD would refuse these data:\n" + "\n".join(refusals))
    print("StepD would take these data.")


@paused_collector()
def run_sample(config: Config) -> None:
    """Print each relation's first clean, corrupted and zero-shot prompt, its tokens marked.

    Raises:
        TrialError: relations that cannot give their trials, named after the others were printed.
    """
    _refuse_replay(config)
    file = read_relations(config.data)
    from fv.data.encoding import Encoder
    from fv.data.trials import RelationSampler
    from fv.models.tokenizer import load_tokenizer

    lm = load_tokenizer(config.model)
    special = _special_tokens(lm, config)
    encoder = Encoder(lm, special, config.model.called("add_special_tokens"))
    print(
        "| stands between tokens, ⏎ for a newline, [ ] around the token that is scored; an answer's token that is part "
        "of a character is shown as bytes, as in \\xea."
    )
    refusals = []
    for relation in file.relations:
        try:
            trials = RelationSampler(relation, config.data, config.seed, encoder).sample().trials
        except TrialError as error:
            refusals.append(str(error))
            continue
        for trial in trials[:1]:
            prompts = (trial.clean_prompt_str, trial.corrupted_prompt_str, trial.zero_shot_prompt_str)
            for name, prompt in zip(("clean", "corrupted", "zero-shot"), prompts, strict=True):
                marked, count = mark_tokens(lm, prompt, trial.target_str, special)
                print(f"\n── {trial.trial_id}, {name} prompt, {count} tokens, answer {trial.target_str!r}\n{marked}")
    if refusals:
        raise TrialError("\n".join(refusals))


def mark_tokens(lm: "LanguageModel", prompt: str, target: str, special: bool) -> tuple[str, int]:
    """A prompt and its answer with the tokens' borders marked, and the number of the prompt's tokens.

    The answer's tokens are shown as they are, in bytes where they are parts of a character; in the prompt, a character
    stands whole at its first token.
    """
    text = prompt + target
    tokens = lm.tokenizer(text, add_special_tokens=special, return_offsets_mapping=True)
    count = sum(end <= len(prompt) for _, end in tokens["offset_mapping"])  # no token of a trial spans the border
    shown = ""
    covered = 0
    for i, (token, (start, end)) in enumerate(zip(tokens["input_ids"], tokens["offset_mapping"], strict=True)):
        if start == end:  # a special token covers no text
            piece = "<special>"
        elif i < count:
            piece = text[max(start, covered) : end] or "…"
        else:
            piece = shown_token(lm.tokenizer, token, text[start:end])
        piece = piece.replace("\n", "⏎") + ("\n" if "\n" in piece else "")
        border = "" if i == 0 or shown.endswith("\n") else "|"
        shown += border + (f"[{piece}]" if i == count else piece)
        covered = max(covered, end)
    return shown, count


def _special_tokens(lm: "LanguageModel", config: Config) -> bool:
    """Whether prompts get special tokens; warns where the tokenizer would have it otherwise."""
    from fv.models.special_tokens import adds_special_tokens, special_tokens_warning

    used = adds_special_tokens(lm.tokenizer, config.model.add_special_tokens)
    setting, name = config.model.add_special_tokens, config.model.called("add_special_tokens")
    if warning := special_tokens_warning(lm.tokenizer, used, setting, name):
        log.warning(warning)
    return used


def _refuse_replay(config: Config) -> None:
    if config.data.fixed_trials_path is not None:
        raise ConfigError("data.fixed_trials_path replays trials that were sampled; there are no relations to look at.")


def _token_findings(rows: list[Row], reports: "list[TokenReport]") -> list[Finding]:
    """What the tokenizer stumbles over, with the lines."""
    first: dict[tuple[str, str, str], Row] = {}
    by_output: dict[tuple[str, str], Row] = {}
    for row in rows:
        first.setdefault((row.q_id, row.exA, row.exB), row)
        by_output.setdefault((row.q_id, row.exB), row)
    findings = []
    for report in reports:
        for pair, why in report.mismatches:
            row = first[report.q_id, pair.exA, pair.exB]
            findings.append(Finding(report.q_id, "cannot be a query", (place(row.file, row.line),), why))
        for outputs in report.collisions:
            several = [by_output[report.q_id, output] for output in outputs]
            where = tuple(place(row.file, row.line) for row in several)
            findings.append(Finding(report.q_id, "outputs with one first token", where, ", ".join(map(repr, outputs))))
    return findings


def _print_reports(title: str, reports: "list[TokenReport]") -> None:
    columns = ("relation", "pairs", "outputs", "majority", "answer tokens", "colliding", "max demos", "max fit")
    rows = [
        (
            report.q_id,
            report.n_pairs,
            report.n_outputs,
            f"{report.majority:.0%}",
            f"{report.target_tokens[0]}–{report.target_tokens[2]} (mean {report.target_tokens[1]:.1f})",
            sum(map(len, report.collisions)),
            report.capacity.demos,
            report.capacity.fit,
            report.capacity.eval,
        )
        for report in reports
    ]
    _print_table(title, (*columns, "max eval"), rows)
    print("Each maximum holds for any seed while the other two counts stay as configured.")


def _print_corruption(reports: "list[CorruptionReport]", name: str) -> None:
    columns = ("relation", "prompts", "deranged", "from the relation", "permuted", "outputs right")
    rows = [
        (
            *(report.q_id, report.n_trials, report.n_deranged, report.n_relation, report.n_permuted),
            *(f"{report.right:.0%}", f"{report.n_visible} ({report.n_visible_clean} clean)"),
        )
        for report in reports
    ]
    _print_table("Corrupted prompts of the trials as configured", (*columns, "answer visible"), rows)
    for report in reports:
        for line in report.warnings(name):
            print(f"\n{line}")


def _print_findings(findings: list[Finding]) -> None:
    groups: dict[tuple[str, str], list[Finding]] = defaultdict(list)
    for finding in findings:
        groups[finding.q_id, finding.kind].append(finding)
    for (q_id, kind), several in sorted(groups.items()):
        print(f"\n{q_id}: {kind} ({len(several)})")
        for finding in several[:MAX_SHOWN]:
            shown = finding.where[:MAX_SHOWN]
            more = f" and {len(finding.where) - len(shown)} more" if len(finding.where) > len(shown) else ""
            print(f"  {', '.join(shown)}{more}: {finding.what}")
        if len(several) > MAX_SHOWN:
            print(f"  … and {len(several) - MAX_SHOWN} more")


def _print_table(title: str, columns: tuple[str, ...], rows: Sequence[tuple[object, ...]]) -> None:
    table = ConsoleTable(title=title)
    for i, name in enumerate(columns):
        table.add_column(name, justify="right" if i else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(str, row))
    # A relation may be called [b] or :b:, which rich would take for its own signs.
    console = Console(width=None if Console().is_terminal else 140, markup=False, emoji=False)
    console.print(table)
