# %% [markdown]
# # Fine-tuning: the model that is to forget
#
# *Does a fine-tuned model remember the recordings that it was trained on?*

# %% tags=["parameters"]
profile = "smoke"  # smoke, cpu or paper: see the page on profiles
corpus = ""  # name of a reader; empty: the profile's corpus
root = ""  # the corpus's folder, or the CSV; empty: its own place
encoder = ""  # nano, nano-pretrained, a local folder or a hub id; empty: the profile's
skip_bad = False  # leave out clips that cannot be used, instead of refusing the corpus
cache = ""  # folder of finished work; empty: artefacts/ in the repository
results = ""  # folder that results are added to; empty: none is written

# %%
from speechunlearn.chapters import context

run = context.start(
    profile, corpus, root, encoder, skip_bad, cache, results
)

# %% tags=["answer"]
from speechunlearn.chapters import answers, pages

shown = answers.emotions()
table = answers.table(shown)
attack = {name: table.loc[(name, "forget"), "mia_auc"] for name in ("original", "retrain")}
pages.write(
    f"Yes: UAR is {answers.uar(table, 'original')} on clips that it was trained on and "
    f"{answers.uar(table, 'original', 'unseen')} on unseen speakers. An attack on the loss tells "
    f"these clips from those of unseen speakers with an AUC of {attack['original']:.2f}; of models "
    f"retrained without the clips it is {attack['retrain']:.2f}.{answers.about(shown, table)}"
)

# %% [markdown]
# Ren et al. fine-tune wav2vec 2.0 for 20 epochs with Adam at 3e-5 and batches of 16, in two
# settings: train on the training speakers and test on the **validation** speakers; train on both and
# test on the **test** speakers. Their UAR on unseen speakers is .907 and .897.
#
# Here the same is done, at the size of the profile. What matters for unlearning is not only that
# the model is good, but that it **remembers**: on its training clips it must do visibly better than
# a model that never saw them. Where there is no such gap, there is nothing to forget and every
# method of unlearning seems to work.

# %% [markdown]
# ## A step of fine-tuning, rebuilt
#
# All training here repeats one step: compute the loss of a batch, take its gradient, and move the
# weights against it.

# %% tags=["nbval-ignore-output"]
print(run.made_by())

# %% tags=["component"]
import torch
from torch.nn.functional import cross_entropy


def loss_of(model, clips):
    """Mean cross-entropy of the true labels, in nats."""
    return cross_entropy(model(*clips.batch(range(len(clips)))), clips.labels)


def step(model, optimiser, clips):
    """Move the weights against the gradient of the batch's loss."""
    loss = loss_of(model, clips)
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    return loss.item()

# %% [markdown]
# Here it runs on one batch, with as many clips of speakers whom the model never hears for
# comparison. Dropout and masking are off, so that nothing is random, and sums are taken in double
# precision, so that two programs that add in a different order agree.

# %% tags=["nbval-ignore-output", "figure-seen_and_unseen"]
from dataclasses import replace

import numpy as np
import pandas as pd

from speechunlearn.chapters import figures
from speechunlearn.models import classifier, training

study = run.study("validation")
rates = ("hidden", "attention", "activation", "feat_proj", "final")
nothing_drawn = {f"{rate}_dropout": 0.0 for rate in rates} | {
    "layerdrop": 0.0, "apply_spec_augment": False,
}


def fresh():
    """The model before any training."""
    config = study.recipe.encoder | nothing_drawn
    return classifier.build(study.profile.encoder, study.labels, 0, **config).double()


def some(clips, n=16):
    """A few clips at random, in double precision."""
    order = torch.randperm(len(clips), generator=torch.Generator().manual_seed(0))
    chosen = clips.at(order[:n].tolist())
    return replace(chosen, waveforms_z=[w.double() for w in chosen.waveforms_z])


batch, strangers = some(study.train), some(study.unseen)
model, learning_rate, steps = fresh(), 1e-3, 25
optimiser = torch.optim.Adam(model.parameters(), lr=learning_rate)
losses = []
for _ in range(steps):
    with torch.no_grad():
        unseen_loss = loss_of(model, strangers).item()
    losses.append({"trained on": step(model, optimiser, batch), "unseen": unseen_loss})
losses = pd.DataFrame(losses)
figure, axis = figures.panels(5.5, 3.2)
figures.curves(axis, losses, marker="")
axis.set(xlabel="steps", ylabel="loss (nats)", ylim=(0, None));

# %% [markdown]
# The package's `train` does the same, with one batch as the whole training set:

# %% tags=["agrees"]
theirs = fresh()
recipe = training.Recipe(
    epochs=steps, learning_rate=learning_rate, batch_size=len(batch)
)
history = training.train(theirs, batch, recipe, seed=0)
assert np.allclose(losses["trained on"], history, atol=1e-6)
for ours, weight in zip(model.parameters(), theirs.parameters(), strict=True):
    assert torch.allclose(ours, weight, rtol=0, atol=1e-6)
print("losses and weights: equal to 1e-6")

# %% [markdown]
# ## On real speech
#
# The committed run of this chapter in profile `cpu`: the corpus, encoder and machine are named in
# the table. The paper's numbers are those of wav2vec2-base on DEMoS, a larger pre-trained model
# on another corpus.

# %%
from speechunlearn.audit import statistics
from speechunlearn.chapters import pages
from speechunlearn.lab import results as protocol


def intervals(clips, generator):
    """UAR on each part, with its interval from resampling speakers."""
    parts = {split: clips[clips["split"] == split] for split in ("forget", "retain", "unseen")}
    return {
        split: protocol.with_interval(*statistics.cluster_bootstrap(part, generator=generator))
        for split, part in parts.items()
    }


real = protocol.committed("cpu", "ravdess").reported().select(method=["original", "retrain"])
real = real.select(n_forget=real.sizes[-1])
pages.write(pages.made_by(real))
key = ["setting", "seed", "forget_id", "method"]
models = real.evaluations.sort_values(["setting", "seed", "method"]).set_index(key)
attack = protocol.across(real.rows(), key)["forget mia_auc"]
generator = np.random.default_rng(0)
table = pd.DataFrame(
    [intervals(real.of_evaluation(name), generator) for name in models["evaluation"]],
    index=models.index.set_names("model", level="method"),
).add_suffix(" UAR")
table.assign(**{"attack AUC": attack.loc[models.index].to_numpy()}).rename(
    index=protocol.TITLES, level="model"
)

# %% [markdown]
# ## Run it yourself
#
# In the published book, what follows is a run of profile `smoke` on a small synthetic corpus: it shows
# that the code works, and decides nothing. With a profile, corpus and parameters of your own:
#
#     speechunlearn run 02 --profile cpu --corpus ravdess --root PATH

# %%
from speechunlearn.lab import experiments

studies = {setting: run.study(setting) for setting in run.profile.settings}
seed, _ = run.profile.runs[0]

# %% tags=["figure-training_curves"]
histories = {setting: study.history(seed) for setting, study in studies.items()}
by_epoch = {name: table.set_index("epoch")["loss"] for name, table in histories.items()}
figure, axis = figures.panels(5.5, 3.2)
figures.curves(axis, pd.DataFrame(by_epoch), markersize=4)
axis.set(xlabel="epoch", ylabel="training loss (nats)", ylim=(0, None));

# %% [markdown]
# UAR of the fine-tuned model on clips it was trained on (the forget set that it has not yet
# forgotten, and a sample of the others) and on unseen speakers, with 95 % intervals from
# resampling speakers; beside it the same model *retrained without* the forget set.

# %%
evaluations = {
    (setting, method): evaluation
    for setting, asked in experiments.finetuning(run).items()
    for method, evaluation in zip(("original", "retrain"), asked, strict=True)
}
generator = np.random.default_rng(0)
table = pd.DataFrame(
    {key: intervals(each.predictions, generator) for key, each in evaluations.items()}
).T
table.index.names = ["setting", "model"]
table

# %% [markdown]
# ### Does it remember?
#
# A membership attack guesses from a clip's loss whether it was trained on. Its AUC is the chance
# that a training clip has a lower loss than a clip of an unseen speaker; 0.5 is guessing. The
# retrained model's AUC on the *same* clips is the reference: what lies between the two is what
# there is to forget.

# %%
results = run.results(evaluations.values())
rows = results.rows()
attack = rows[rows["metric"] == "mia_auc"].set_index(["setting", "method"])["value"]
attack.round(2).unstack().rename_axis(columns="attack AUC")

# %% [markdown]
# ### Where the model errs
#
# Confusions on unseen speakers in the first setting; each row is a class, and its values are shares
# of that class's clips.

# %%
first = run.profile.settings[0]
unseen = evaluations[first, "original"].predictions.query("split == 'unseen'")
figures.confusion(unseen, studies[first].labels);

# %% [markdown]
# ## What to remember
#
# - Fine-tuning repeats one step: loss, gradient, update of the weights.
# - The loss of the training clips falls below that of unseen speakers' clips. That gap is what a
#   model remembers of single clips, and what there is to forget.
# - A model without the gap makes every method of unlearning look good.
#
# ## Exercises
#
# **1.** What is the loss of a model that gives every class the same probability?

# %% tags=["solution", "hide-cell"]
n_classes = len(study.labels)
undecided = cross_entropy(torch.zeros(len(batch), n_classes), batch.labels).item()
assert np.isclose(undecided, np.log(n_classes))
print("The logarithm of the number of classes; the curves above begin near it.")

# %% [markdown]
# **2.** How far does the first step move the weight that it moves most? (Adam divides the gradient
# by its own size.)

# %% tags=["solution", "hide-cell"]
moved = fresh()
step(moved, torch.optim.Adam(moved.parameters(), lr=learning_rate), batch)
pairs = zip(moved.parameters(), fresh().parameters(), strict=True)
farthest = max((after - before).abs().max().item() for after, before in pairs)
assert 0.99 * learning_rate < farthest < 1.01 * learning_rate
print("By the learning rate, whatever the loss.")

# %% [markdown]
# **3.** After these steps, how many more clips does the model get right in its batch than among the
# unseen speakers' clips?

# %% tags=["solution", "hide-cell"]
right = {
    name: (training.predict(model, clips).argmax(1) == clips.labels).sum().item()
    for name, clips in {"trained on": batch, "unseen": strangers}.items()
}
assert right["trained on"] > right["unseen"]
print("Of several: it knows its batch, and little else.")
