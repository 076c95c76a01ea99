"""Commands on relation data: list it, check it with a tokenizer, show prompts. They print, and write no files."""

import logging
from typing import TYPE_CHECKING

from fv.collector import paused_collector
from fv.config import Config, DataConfig, ModelConfig
from fv.data.checks import check_rows
from fv.data.clusters import configured_clusters
from fv.data.marked_prompt import LEGEND, mark_tokens
from fv.data.prompt_kinds import in_words
from fv.data.relations import bad_rows, read_configured, read_rows, relations_of
from fv.data.token_findings import token_findings
from fv.display import print_line
from fv.errors import ConfigError, RelationError, TrialError
from fv.steps.data_tables import print_corruption, print_findings, print_relations, print_reports

if TYPE_CHECKING:
    from fv.data.encoder import HasTokenizer

log = logging.getLogger(__name__)


def run_list(config: Config) -> None:
    """Print every relation with its counts.

    Raises:
        RelationError: the data cannot be read.
    """
    _refuse_replay(config.data)
    print_relations(read_configured(config.data))


def run_check(config: Config) -> None:
    """Print all findings in the data, as text and as tokens of the model's tokenizer.

    Raises:
        RelationError: StepD would refuse the data with these settings.
    """
    _refuse_replay(config.data)
    table = read_rows(config.data)
    refusals = [bad_rows(table, len(table.bad))] if table.bad else []
    if not table.rows and refusals:
        raise RelationError(refusals[0])
    file = relations_of(table, config.data.qids)
    try:
        configured_clusters(config.data, table.path)
    except RelationError as error:
        refusals.append(str(error))
    wanted = {relation.q_id for relation in file.relations}
    rows = [row for row in table.rows if row.q_id in wanted]
    # Imported here because these import torch, which is not needed to refuse a damaged table.
    from fv.data.encoder import Encoder
    from fv.data.token_report import token_report
    from fv.models.tokenizer import load_tokenizer

    lm = load_tokenizer(config.model)
    encoder = Encoder(lm, _special_tokens(lm, config.model), config.model.called("add_special_tokens"))
    reports = [token_report(relation, config.data, config.seed, encoder) for relation in file.relations]
    print_reports(f"{file.path} for {lm.name}", reports)
    corruption = [report.corruption for report in reports if report.corruption]
    print_corruption(corruption, config.data.called("corruption"))
    print_findings([*check_rows(rows), *token_findings(rows, reports)])
    if config.data.strict:
        refusals += [f"{line} (data.strict=true)" for line in file.warnings()]
    starved = [report.refusal for report in reports if report.refusal]
    if not config.data.allow_drop or len(starved) == len(reports):
        refusals += starved
    if refusals:
        raise RelationError("StepD would refuse these data:\n" + "\n".join(refusals))
    print_line("StepD would take these data.")


@paused_collector()
def run_sample(config: Config) -> None:
    """Print each relation's first clean, corrupted and zero-shot prompt with their tokens marked.

    Raises:
        TrialError: relations lack pairs for their trials; raised after the other relations are printed.
    """
    _refuse_replay(config.data)
    file = read_configured(config.data)
    from fv.data.encoder import Encoder
    from fv.data.relation_sampler import RelationSampler
    from fv.models.tokenizer import load_tokenizer

    lm = load_tokenizer(config.model)
    special = _special_tokens(lm, config.model)
    encoder = Encoder(lm, special, config.model.called("add_special_tokens"))
    print_line(LEGEND)
    refusals = []
    for relation in file.relations:
        try:
            trials = RelationSampler(relation, config.data, config.seed, encoder).sample().trials
        except TrialError as error:
            refusals.append(str(error))
            continue
        for trial in trials[:1]:
            for kind, prompt in trial.prompts.items():
                marked, count = mark_tokens(lm, prompt, trial.target_str, special)
                about = f"{trial.trial_id}, {in_words(kind)} prompt, {count} tokens, answer {trial.target_str!r}"
                print_line(f"\n── {about}\n{marked}")
    if refusals:
        raise TrialError("\n".join(refusals))


def _special_tokens(lm: "HasTokenizer", model: ModelConfig) -> bool:
    """True if prompts get special tokens; warns if the setting differs from the tokenizer's default."""
    from fv.models.special_tokens import adds_special_tokens, special_tokens_warning

    used = adds_special_tokens(lm.tokenizer, model.add_special_tokens)
    setting, name = model.add_special_tokens, model.called("add_special_tokens")
    if warning := special_tokens_warning(lm.tokenizer, used, setting, name):
        log.warning(warning)
    return used


def _refuse_replay(data: DataConfig) -> None:
    if data.fixed_trials_path is not None:
        raise ConfigError("data.fixed_trials_path replays trials that were sampled; there are no relations to look at.")
