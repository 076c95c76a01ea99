"""The public names, for type checkers, and for `lazy_loader`, which reads them from here.

`import fv` loads none of them; each is loaded when it is first used.
"""

from .config.presets import model_presets as model_presets
from .config.presets import template_presets as template_presets
from .data.reading import read_relations as read_relations
from .data.relations import Pair as Pair
from .data.relations import Relation as Relation
from .data.relations import Relations as Relations
from .data.sample_trials import sample_trials as sample_trials
from .data.trials import Trials as Trials
from .data.trials import load_trials as load_trials
from .errors import FvError as FvError
from .errors import FvWarning as FvWarning
from .evaluation.compare_makers import MakerComparison as MakerComparison
from .evaluation.compare_makers import baselines as baselines
from .evaluation.evaluate import evaluate as evaluate
from .evaluation.result import Result as Result
from .evaluation.result import load_result as load_result
from .heads.effects import Effects as Effects
from .heads.effects import HeadEffects as HeadEffects
from .heads.file import load_effects as load_effects
from .heads.relations import indirect_effects as indirect_effects
from .interventions.compute import Compute as Compute
from .interventions.edit import Edit as Edit
from .interventions.editable import EditableModel as EditableModel
from .interventions.edits.add_heads import AddHeads as AddHeads
from .interventions.edits.add_keeping_norm import AddKeepingNorm as AddKeepingNorm
from .interventions.edits.add_linear import AddLinear as AddLinear
from .interventions.edits.add_to_attention import AddToAttention as AddToAttention
from .interventions.edits.add_to_mlp import AddToMLP as AddToMLP
from .interventions.edits.add_vector import AddVector as AddVector
from .interventions.edits.mix import Mix as Mix
from .interventions.edits.replace_residual import ReplaceResidual as ReplaceResidual
from .interventions.edits.set_heads import SetHeads as SetHeads
from .interventions.edits.together import Edits as Edits
from .interventions.engine import Cell as Cell
from .interventions.engine import Head as Head
from .interventions.loading import load_model as load_model
from .interventions.place import Part as Part
from .interventions.place import Place as Place
from .interventions.wrapping import wrap as wrap
from .pricing.plan import plan as plan
from .pricing.price import Price as Price
from .runs.run import Run as Run
from .runs.run import open_run as open_run
from .vectors.file import load_vector as load_vector
from .vectors.function_vector import function_vector as function_vector
from .vectors.made_vector import MadeEdit as MadeEdit
from .vectors.make_vector import make_vector as make_vector
from .vectors.vector import Vector as Vector

__version__: str
__all__: list[str]
