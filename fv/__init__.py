"""Function vectors of language models: find the heads, build the vector, inject it, measure it.

    import fv

    lm = fv.load_model("smollm2")
    trials = fv.sample_trials(fv.read_relations(names=["antonym"]), lm)
    effects = fv.indirect_effects(lm, trials)
    vector = fv.function_vector(lm, effects["antonym"], k=10)
    result = fv.evaluate(lm, vector, trials, layers="all", alphas=[1, 2])
    with lm.edited(vector.at(result.cell)):
        print(lm.generate(trials.prompt("hot"), max_new_tokens=5))

The names are in `__init__.pyi`; each is loaded when it is first used, so that `import fv` takes no time.
"""

import lazy_loader

__version__ = "0.1.0"
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
