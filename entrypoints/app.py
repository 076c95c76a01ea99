"""Base of all commands: it registers the schema, runs steps, and shows errors."""

import contextlib
import dataclasses
import functools
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fv.cluster.base.cluster import StillAtWork
from fv.collector import loaded
from fv.config import Config, ModelConfig
from fv.config.checks import name_after
from fv.config.group import named_later
from fv.config.overrides import typed_template
from fv.config.presets import CONF
from fv.display import print_line
from fv.errors import ConfigError, FvError
from fv.progress import activity, show_bars
from fv.registry import refuse_unknown
from fv.steps.model_holder import ModelHolder
from fv.vectors.makers import injected_makers

from .command_line import is_answered, multirun_first, with_null_named
from .errors import UserError, traceback_wanted, user_errors
from .launchers import add_resolvers, missing_plugin
from .output import take_any_text
from .pages import write_page
from .plug_ins import add_analyses, add_clusters, add_conditions
from .sweeps import RecordJobs, in_sweep, launched_job, watched_jobs
from .words import refuse_unknown_words

WITH_CLUSTER = {"pipeline", "stepd", "stepe", "step6", "analyse"}
"""Commands whose units a cluster can compute."""
OmegaConf.register_new_resolver("name_after", name_after, replace=True)
_schema = OmegaConf.structured(Config)
# The class, not the default model: if a model file leaves a setting out, the class's default holds.
_schema.model = ModelConfig
# Settings of makers have the makers' names, and are checked with them.
OmegaConf.set_struct(_schema.injection.makers, False)
add_conditions(_schema)
add_analyses()
add_clusters()
ConfigStore.instance().store(name="config_schema", node=_schema)
# Not in conf/, because this module has another name in an installed package than in a clone.
ConfigStore.instance().store(
    group="hydra/callbacks", name="record", node={"record": {"_target_": f"{RecordJobs.__module__}.RecordJobs"}}
)
add_resolvers()
Task = Callable[[DictConfig], Path | None]
_holder: ContextVar[ModelHolder] = ContextVar("_holder")


def entrypoint(config_name: str) -> Callable[[Task], Callable[[], None]]:
    """Decorate a function of this package as `hydra.main` does; all jobs of one call share one model."""

    def decorate(task: Task) -> Callable[[], None]:
        start = hydra.main(version_base="1.3", config_path=str(CONF), config_name=config_name)(task)

        @functools.wraps(task)
        def main() -> None:
            take_any_text()
            if is_answered(sys.argv[1:], config_name, task.__globals__["__doc__"]):
                return
            sys.argv[1:] = with_null_named(multirun_first(sys.argv[1:]))
            if missing := missing_plugin(sys.argv[1:]):
                sys.exit(missing)
            before = _holder.set(ModelHolder())
            try:
                with user_errors():
                    refuse_unknown_words(sys.argv[1:])
                with watched_jobs(sys.argv[1:], typed) as jobs:
                    start()
                with user_errors():
                    _gather(jobs)
            except UserError as error:
                if traceback_wanted():
                    raise
                sys.exit(f"{error}")
            except KeyboardInterrupt:
                if traceback_wanted():
                    raise
                print("Interrupted. Finished work is kept; the same command continues from there.", file=sys.stderr)
                sys.exit(130)
            finally:
                _holder.reset(before)

        return main

    return decorate


def run(
    cfg: DictConfig,
    module: str,
    function: str,
    with_model: bool = True,
    show: str | None = None,
    page: str | None = None,
    **more: Any,
) -> Path | None:
    """Check the configuration, then import and call the step, so that torch is not loaded for a wrong setting.

    In a sweep, each job of Step6 writes into a cell of its own, and the command's process gathers the cells.

    Args:
        cfg: the configuration, as Hydra composed it.
        module: the module of the step.
        function: the function of the step.
        with_model: pass the step the model holder of this call.
        show: a function of `fv.report.terminal` that shows the folder which the step returns; not in a sweep, where the
            gathered results are shown.
        page: `<module>.<function>` of `fv.report` that writes a page.
        more: further arguments of the step.

    Returns:
        the cell that a job of a sweep wrote; None if there is nothing to gather.

    Raises:
        UserError: the step failed.
    """
    take_any_text()  # a launcher's worker process runs jobs without an entrypoint
    with user_errors():
        config = typed(cfg)
        _listen(config.quiet, HydraConfig.initialized() and bool(HydraConfig.get().verbose), launched_job())
        if config.cluster.elsewhere:
            module = _distributed(config, function)
        with activity("Loading the libraries") if with_model else contextlib.nullcontext():
            step = getattr(loaded(module), function)
        if in_sweep() and function in ("run_step6", "run_pipeline"):
            return step(config, _models(), as_cell=True).absolute()
        try:
            folder = step(config, _models(), **more) if with_model else step(config, **more)
        except StillAtWork as message:
            print_line(str(message))
            return None
        if show and not config.quiet and not in_sweep():
            from fv.report import terminal

            getattr(terminal, show)(folder)
        if page:
            write_page(config, page)
    return None


def _distributed(config: Config, function: str) -> str:
    """The module of steps whose units a cluster computes.

    Raises:
        ConfigError: the command computes in this process only, or this is one job of a sweep.
    """
    name = type(config.cluster).__name__.lower()
    if function.removeprefix("run_") not in WITH_CLUSTER:
        commands = ", ".join(sorted(WITH_CLUSTER))
        raise ConfigError(f"cluster={name} is for {commands}; this command computes in this process: leave it out.")
    if in_sweep():
        raise ConfigError(
            f"cluster={name} is not for the jobs of a sweep (-m): use a launcher for the jobs (hydra/launcher=…), or "
            "run the commands one after the other."
        )
    return "fv.steps.distributed"


def typed(cfg: DictConfig) -> Config:
    """Convert a configuration to checked dataclasses, with its typed template read.

    Raises:
        FvError: a value or a combination of values is not possible.
        UserError: a value is missing or cannot be resolved.
    """
    _refuse_added(cfg)
    try:
        with named_later():
            config = OmegaConf.to_object(cfg)
    except OmegaConfBaseException as error:
        if isinstance(error.__cause__, FvError):
            raise error.__cause__ from None
        raise UserError(str(error)) from error
    assert isinstance(config, Config)
    config.data.template = typed_template(config.data.template)
    injected_makers(config.injection)  # refuses unknown ones
    return config


def _refuse_added(cfg: DictConfig, prefix: str = "") -> None:
    """Refuse keys that are not in the schema: `+key=…` would add them, and nothing would read them.

    Raises:
        ConfigError: there is such a key; the message names it and similar keys.
    """
    kind = OmegaConf.get_type(cfg)
    names = [field.name for field in dataclasses.fields(kind)] if dataclasses.is_dataclass(kind) else None
    for key in cfg:
        called = f"{prefix}{key!s}"
        if names is not None:
            refuse_unknown(called, [f"{prefix}{name}" for name in names], "setting")
        if isinstance(own := cfg._get_node(key), DictConfig) and not own._is_missing() and not own._is_none():
            _refuse_added(own, f"{called}.")


def _listen(quiet: bool, verbose: bool, job: int | None = None) -> None:
    """Show log lines and progress bars on the terminal, according to `quiet` and Hydra's `hydra.verbose`.

    Jobs that run in parallel draw no bars, and their lines begin with their number.
    """
    from fv.runs.logs import log_to_terminal

    show_bars(not quiet and job is None)
    log_to_terminal(quiet, verbose, job)


def _models() -> ModelHolder:
    if _holder.get(None) is None:
        # A launcher's worker process runs jobs without an entrypoint.
        _holder.set(ModelHolder())
    return _holder.get()


def _gather(jobs: Sequence[JobReturn]) -> None:
    """Gather the Step6 cells of a sweep's jobs into one summary per run and tag, and average runs over seeds."""
    groups: dict[Path, list[Path]] = defaultdict(list)
    for job in jobs:
        if isinstance(cell := job.return_value, Path):
            groups[cell.parent.parent].append(cell)
    if not groups:
        return
    settings = [job.cfg for job in jobs if job.cfg is not None]
    quiet, overwrite = settings[0].quiet, any(each.overwrite for each in settings)
    hydra_settings = jobs[0].hydra_cfg
    _listen(quiet, hydra_settings is not None and bool(hydra_settings.hydra.verbose))
    from fv.steps.gather import cells_by_place, gather_cells
    from fv.steps.seeds import gather_seeds, seeds_of_one_setting

    gathered = []
    for place, cells in ((p, c) for folder, own in groups.items() for p, c in cells_by_place(folder, own).items()):
        gathered.append(gather_cells(place, cells, overwrite, _models()))
    for folders in seeds_of_one_setting(gathered):
        # Averages over seeds are shown in place of their runs.
        gathered = [gather_seeds(folders), *(folder for folder in gathered if folder not in folders)]
    if not quiet:
        from fv.report.terminal import print_gathered

        for folder in gathered:
            print_gathered(folder)
