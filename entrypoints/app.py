"""What the entrypoints share: the schema's registration, one way to run a step, and one way to show an error."""

import contextlib
import functools
import importlib
import json
import os
import sys
from collections import defaultdict
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fv.cluster.work.cluster import StillAtWork
from fv.config import Config, ModelConfig
from fv.config.checks import name_after
from fv.config.presets import CONF
from fv.errors import ConfigError, FvError
from fv.progress import activity, show_bars
from fv.steps.holder import ModelHolder

from .analyses import add_analyses
from .clusters import add_clusters
from .command_line import is_answered, multirun_first
from .conditions import add_conditions
from .pages import write_page

POINTER = "cell.json"
WITH_CLUSTER = {"pipeline", "stepd", "stepe", "step6", "analyse"}
"""The commands whose units a cluster can compute."""
OmegaConf.register_new_resolver("name_after", name_after, replace=True)
_schema = OmegaConf.structured(Config)
# The class and not the default model: a model file that leaves a setting out gets the class' value.
_schema.model = ModelConfig
add_conditions(_schema)
add_analyses()
add_clusters()
ConfigStore.instance().store(name="config_schema", node=_schema)
# Not in conf/: this module's name in an installed package is not its name in a clone.
ConfigStore.instance().store(
    group="hydra/callbacks", name="gather", node={"gather": {"_target_": f"{__name__}.GatherSweep"}}
)


class UserError(CompactHydraException):
    """Hydra prints this kind without a traceback, unless HYDRA_FULL_ERROR=1."""


_holder: ContextVar[ModelHolder] = ContextVar("_holder")


def entrypoint(config_name: str) -> Callable[[Callable[[DictConfig], None]], Callable[[], None]]:
    """`hydra.main` for a function of this package; all jobs of one call share one model, which goes with the call."""

    def decorate(task: Callable[[DictConfig], None]) -> Callable[[], None]:
        start = hydra.main(version_base="1.3", config_path=str(CONF), config_name=config_name)(task)

        @functools.wraps(task)
        def main() -> None:
            if is_answered(sys.argv[1:], config_name, task.__globals__["__doc__"]):
                return
            sys.argv[1:] = multirun_first(sys.argv[1:])
            before = _holder.set(ModelHolder())
            try:
                start()
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
) -> None:
    """Check the configuration, then import and call the step: torch is not loaded for a wrong setting.

    A step `with_model` gets the holder of this call of the entrypoint, and `more` as it is. In a sweep, jobs of Step6
    write to cells of their own; a pointer in the job's folder lets `GatherSweep` find them. What a step found is shown
    by the function `show` of `fv.report.terminal`, which takes the folder that the step gives; in a sweep, what was
    gathered is. The page that `page` of `fv.report` writes comes last.
    """
    try:
        config = typed(cfg)
        _listen(config)
        if config.cluster.elsewhere:
            module = _distributed(config, module, function)
        with activity("Loading the libraries") if with_model else contextlib.nullcontext():
            step = getattr(importlib.import_module(module), function)
        if _in_sweep() and function in ("run_step6", "run_pipeline"):
            _point_to(step(config, _models(), as_cell=True), config.overwrite)
            return
        folder = step(config, _models(), **more) if with_model else step(config, **more)
        if show and not config.quiet and not _in_sweep():
            from fv.report import terminal

            getattr(terminal, show)(folder)
        if page:
            write_page(config, page)
    except KeyboardInterrupt:
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        print("Interrupted. What was finished is kept; the same command goes on from there.", file=sys.stderr)
        sys.exit(130)
    except StillAtWork as told:
        print(told)
    except FvError as error:
        raise UserError(str(error)) from error
    except OSError as error:
        raise UserError(f"{error.strerror or error}: {error.filename or ''}. What was finished is kept.") from error
    except Exception as error:
        if isinstance(error, CompactHydraException):
            raise
        raise UserError(f"Unexpected {type(error).__name__}: {error}") from error


def _distributed(config: Config, module: str, function: str) -> str:
    """The module of the steps whose units a cluster computes.

    Raises:
        ConfigError: the step computes in this process only, or this is one job of a sweep.
    """
    name = type(config.cluster).__name__.lower()
    if module.rpartition(".")[2] not in WITH_CLUSTER:
        commands = ", ".join(sorted(WITH_CLUSTER))
        raise ConfigError(f"cluster={name} is for {commands}; this command computes in this process: leave it out.")
    if _in_sweep():
        raise ConfigError(
            f"cluster={name} is not for the jobs of a sweep (-m): spread the jobs themselves (hydra/launcher=…), or "
            "give the commands one after the other."
        )
    return "fv.steps.distributed"


def typed(cfg: DictConfig) -> Config:
    """The configuration as checked dataclasses.

    Raises:
        FvError: a value or a combination of values is not possible.
        UserError: a value is missing or cannot be resolved.
    """
    try:
        config = OmegaConf.to_object(cfg)
    except OmegaConfBaseException as error:
        if isinstance(error.__cause__, FvError):
            raise error.__cause__ from None
        raise UserError(str(error)) from error
    assert isinstance(config, Config)
    return config


def _listen(config: Config) -> None:
    """Log lines and bars on the terminal, as many as `quiet` and Hydra's `hydra.verbose` ask for."""
    from fv.runs.logs import log_to_terminal

    show_bars(not config.quiet)
    log_to_terminal(config.quiet, HydraConfig.initialized() and bool(HydraConfig.get().verbose))


def _point_to(cell: Path, overwrite: bool) -> None:
    pointer = {"cell": str(cell.absolute()), "overwrite": overwrite}
    (Path(HydraConfig.get().runtime.output_dir) / POINTER).write_text(json.dumps(pointer), encoding="utf-8")


def _models() -> ModelHolder:
    if _holder.get(None) is None:
        # A launcher's worker process runs jobs, and no entrypoint.
        _holder.set(ModelHolder())
    return _holder.get()


def _in_sweep() -> bool:
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


class GatherSweep(Callback):
    """After a sweep without failures, gathers its Step6 cells into one summary a run and tag, and runs over seeds."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        del kwargs
        groups: dict[Path, list[Path]] = defaultdict(list)
        overwrite = False
        for pointer in sorted(Path(config.hydra.sweep.dir).glob(f"*/{POINTER}")):
            found = json.loads(pointer.read_text(encoding="utf-8"))
            cell = Path(found["cell"])
            groups[cell.parent.parent].append(cell)
            overwrite |= found["overwrite"]
        if not groups:
            return
        from fv.steps.gather import gather_cells, places_of
        from fv.steps.seeds import gather_seeds, seeds_of_one_setting

        try:
            gathered = []
            for place, cells in ((p, c) for folder, own in groups.items() for p, c in places_of(folder, own).items()):
                gathered.append(gather_cells(place, cells, overwrite, _models()))
            for folders in seeds_of_one_setting(gathered):
                # What was gathered further is shown in place of its parts.
                gathered = [gather_seeds(folders), *(folder for folder in gathered if folder not in folders)]
            if not config.quiet:
                from fv.report.terminal import print_gathered

                for folder in gathered:
                    print_gathered(folder)
        except FvError as error:
            # Hydra turns a callback's exception into a warning; a sweep without its summary has failed.
            if os.environ.get("HYDRA_FULL_ERROR") == "1":
                raise
            sys.exit(f"{error}")
