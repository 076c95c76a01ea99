"""A function vector in a few lines: find its heads, build it, inject it where held-out trials say it works best."""

import fv

lm = fv.load_model("smollm2")
trials = fv.sample_trials(fv.read_relations(names=["capitalize"]), lm, demos=5, fit=12, held_out=12)
effects = fv.indirect_effects(lm, trials)
vector = fv.function_vector(lm, effects["capitalize"], k=10)
controls = ["refits", "corrupted_prompts"]  # how far it depends on the fit trials; the same heads of wrong examples
result = fv.evaluate(
    lm, vector, trials, layers=range(8, 22, 3), alphas=[0.25, 0.5, 1, 2], controls=controls, effects=effects
)
print(result.headline.T.to_string(header=False))

prompt = trials.prompt("house")
print("without:", repr(lm.generate(prompt, max_new_tokens=3)))
with lm.edited(vector.at(result.cell)):
    print("with:   ", repr(lm.generate(prompt, max_new_tokens=3)))
