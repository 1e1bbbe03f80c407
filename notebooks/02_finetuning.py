# %% [markdown]
# # Fine-tuning: the model that is to forget
#
# Ren et al. fine-tune wav2vec 2.0 for 20 epochs with Adam at 3e-5 and batches of 16, in two
# settings: train on the training speakers and test on the **validation** speakers; train on both and
# test on the **test** speakers. Their UAR on unseen speakers is .907 and .897.
#
# Here the same is done, at the size of the profile. What matters for unlearning is not only that
# the model is good, but that it **remembers**: on its training clips it must do visibly better than
# a model that never saw them. Where there is no such gap, there is nothing to forget and every
# method of unlearning seems to work.

# %% tags=["parameters"]
profile = "smoke"  # smoke, cpu or paper: see the page on profiles
corpus = ""  # name of a reader; empty: the profile's corpus
root = ""  # the corpus's folder, or the CSV; empty: its own place
encoder = ""  # nano, nano-pretrained, a local folder or a hub id; empty: the profile's
skip_bad = False  # leave out clips that cannot be used, instead of refusing the corpus
cache = ""  # folder of finished work; empty: artefacts/ in the repository
results = ""  # folder that results are added to; empty: none is written

# %%
from speechunlearn import runs

run = runs.start(
    profile, corpus, root, encoder, skip_bad, cache, results
)

# %% tags=["nbval-ignore-output"]
print(run.made_by())

# %%
import numpy as np
import pandas as pd

from speechunlearn import experiments, figures, statistics

studies = {setting: run.study(setting) for setting in run.profile.settings}
seed, _ = run.profile.pairs[0]

# %% tags=["nbval-ignore-output"]
histories = {setting: study.history(seed) for setting, study in studies.items()}
figures.training_curves(histories);

# %% [markdown]
# UAR of the fine-tuned model on clips it was trained on (the forget set that it has not yet
# forgotten, and a sample of the others) and on unseen speakers, with 95 % intervals from
# resampling speakers; beside it the same model *retrained without* the forget set.

# %%
cells = {
    (setting, method): cell
    for setting, asked in experiments.finetuning(run).items()
    for method, cell in zip(("original", "retrain"), asked, strict=True)
}
generator = np.random.default_rng(0)


def interval(cell, split):
    part = cell.predictions[cell.predictions["split"] == split]
    found = statistics.cluster_bootstrap(part, generator=generator)
    return f"{found.value:.2f} [{found.low:.2f}, {found.high:.2f}]"


table = pd.DataFrame(
    {
        key: {split: interval(cell, split) for split in ("forget", "retain", "unseen")}
        for key, cell in cells.items()
    }
).T
table.index.names = ["setting", "model"]
table

# %% [markdown]
# ## Does it remember?
#
# A membership attack guesses from a clip's loss whether it was trained on. Its AUC is the chance
# that a training clip has a lower loss than a clip of an unseen speaker; .5 would be blind. The
# retrained model's AUC on the *same* clips is the reference: what lies between the two is what
# there is to forget.

# %%
results = run.results(cells.values())
rows = results.rows()
attack = rows[rows["metric"] == "mia_auc"].set_index(["setting", "method"])["value"]
attack.round(2).unstack()

# %% [markdown]
# ## Where the model errs
#
# Unseen speakers of the first setting; each row is a class, in shares of its clips.

# %% tags=["nbval-ignore-output"]
first = run.profile.settings[0]
unseen = cells[first, "original"].predictions.query("split == 'unseen'")
figures.confusion(unseen, studies[first].labels);

# %% [markdown]
# ## On real speech
#
# The committed run of this chapter in profile `cpu`: the corpus, encoder and machine are named in
# the table. The paper's numbers are those of wav2vec2-base on DEMoS, a larger pre-trained model
# on another corpus.

# %%
from speechunlearn import pages
from speechunlearn import results as protocol

pages.originals(protocol.committed("cpu", "ravdess"))
