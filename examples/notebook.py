# %% [markdown]
# # Function vectors, cell by cell
#
# An editor that knows `# %%` runs this file as a notebook; `python examples/notebook.py` runs it as a script and
# leaves two figures beside it, in `figures/`.

# %% A model and trials
from pathlib import Path

import fv

FIGURES = Path("figures")
FIGURES.mkdir(exist_ok=True)
lm = fv.load_model("smollm2")
relations = fv.read_relations(names=["antonym", "country_capital", "verb_past"])
trials = fv.sample_trials(relations, lm, demos=5, fit=4, held_out=10, seed=42)
print(trials)

# %% Which heads carry a relation: the indirect effect of every head of half of the layers
effects = fv.indirect_effects(lm, trials, layers=range(8, 22))
print(effects["verb_past"].table.sort_values("mean_delta_logprob", ascending=False).head())
print("heads of the average over relations (AIE):", effects.mean().top(5))

# %% The head heat map
effects["verb_past"].plot(k=10).savefig(FIGURES / "heads.png")

# %% The vector of the relation's own ten best heads, and of the AIE's, as in the paper
vector = fv.function_vector(lm, effects["verb_past"], k=10)
paper = fv.function_vector(lm, effects["verb_past"], heads=effects.mean().top(10))
print(vector, paper, sep="\n")

# %% What it does: the cell is chosen on dev trials, every number is of test trials
result = fv.evaluate(
    *(lm, vector, trials["verb_past"]),
    layers=range(8, 22, 3),
    alphas=[0.25, 0.5, 1, 2],
    controls=["refits", "corrupted_prompts"],
    effects=effects,
)
print(result.headline.T.to_string(header=False))
result.plot().savefig(FIGURES / "effect_by_layer.png")

# %% Generation without the vector and with it
prompt = trials.prompt("walk")
print("without:", repr(lm.generate(prompt, max_new_tokens=3)))
with lm.edited(vector.at(result.cell)):
    print("with:   ", repr(lm.generate(prompt, max_new_tokens=3)))

# %% Save it, and read it back
vector.save(FIGURES / "verb_past.safetensors")
print(fv.load_vector(FIGURES / "verb_past.safetensors"))

# %% A model that is in memory already: here the one that was loaded, as anyone's transformers model would be
own = fv.wrap(lm.model, lm.tokenizer, name=lm.name)
inputs = own.tokenizer([prompt, trials.prompt("go")], return_tensors="pt", padding=True, padding_side="left")
with own.edited(vector.at(result.cell)):
    tokens = own.model.generate(**inputs, max_new_tokens=3, do_sample=False)
print(own.tokenizer.batch_decode(tokens[:, inputs["input_ids"].shape[1] :]))

# %% A relation of one's own, as a list
words = ["cat", "dog", "car", "tree", "house", "book", "hand", "king", "door", "star", "road", "ship", "wall", "bird"]
mine = fv.sample_trials({"plural": [(word, word + "s") for word in words]}, own, demos=3, fit=4, held_out=4)
print(fv.indirect_effects(own, mine, layers=[17, 18])["plural"].top(3))
