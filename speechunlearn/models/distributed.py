"""Training one model by several processes, each on its share of every batch, by accelerate.

`accelerate launch` starts the processes. All of them draw the same batches; each sends its rows
forward, the logits are gathered, and so every process has the loss of the whole batch. Gradients
are averaged by torch's DistributedDataParallel. Without dropout and masks, whose draws differ
between the processes, the weights are those of one process up to rounding.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.distributed.nn.functional import all_gather
from torch.nn.functional import pad

from speechunlearn.dataset.clips import Clips
from speechunlearn.models import training
from speechunlearn.models.classifier import Classifier, seeded
from speechunlearn.models.loop import Work
from speechunlearn.models.training import Recipe

if TYPE_CHECKING:
    from accelerate import Accelerator

#: a process may wait so long for the first one, which may wait for another job's artefact
_PATIENCE = timedelta(days=7)


def processes() -> int:
    """Return how many processes train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """Return which of these processes this one is; the first is 0."""
    return int(os.environ.get("RANK", "0"))


def launch(command: list[str], n: int) -> int:
    """Run a Python module by `accelerate launch`, on so many processes; return its status.

    Args:
        command: module and arguments
        n: processes; each has a GPU of its own where there are GPUs

    """
    return subprocess.run(
        [
            # --multi_gpu starts several processes where there is no GPU, too; --cpu would not
            sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu",
            "--num_machines", "1", "--num_processes", str(n), "--main_process_port", "0",
            "--mixed_precision", "no", "--dynamo_backend", "no", "--module", *command,
        ],
        check=False,
    ).returncode  # fmt: skip


@cache
def _accelerator() -> Accelerator:
    from accelerate import Accelerator, DistributedDataParallelKwargs, InitProcessGroupKwargs

    return Accelerator(
        cpu=not torch.cuda.is_available(),
        kwargs_handlers=[
            # masks and dropped layers leave weights unused, in one process and not in another
            DistributedDataParallelKwargs(find_unused_parameters=True),
            InitProcessGroupKwargs(timeout=_PATIENCE),
        ],
    )


def shared(model: Classifier, resume: Path | None = None) -> Classifier:
    """Return a classifier as all processes train it together; the same one where there is one.

    The first process calls this before it trains, and the others call `help_to_train`.

    Args:
        model: has the weights of what is returned
        resume: file that training will go on from

    """
    if processes() == 1:
        return model
    _agree({"resume": str(resume) if resume is not None and resume.exists() else None})
    return _Shared(model)


def help_to_train(model: Classifier, clips: Clips, recipe: Recipe, *, seed: int) -> None:
    """Take part in a training of the first process, if there is one before `finish`.

    Args:
        model: as the first process has it; thrown away
        clips: the same as the first process's, as are the others

    """
    task = _agree(None)
    if task is not None:
        with tempfile.TemporaryDirectory() as folder:
            state = None
            if task["resume"]:  # the first process goes on from here, and writes it alone
                state = Path(shutil.copy(task["resume"], Path(folder) / "state"))
            _accelerator().wait_for_everyone()
            training.train(_Shared(model), clips, recipe, seed=seed, cost=Work(resume=state))
        _agree(None)
    torch.distributed.destroy_process_group()


def finish() -> None:
    """End the others' waiting; called by the first process when its artefact is there."""
    if processes() > 1:
        _agree(None)
        torch.distributed.destroy_process_group()


def _agree(task: dict[str, Any] | None) -> dict[str, Any] | None:
    """Tell the other processes what begins; return what the first one told."""
    from accelerate.utils import broadcast_object_list

    _accelerator()
    told = [task]
    broadcast_object_list(told)
    if rank() == 0 and task is not None:
        _accelerator().wait_for_everyone()  # until the others have copied the state
    return told[0]


class _Shared(Classifier):
    """A classifier that sends the rows of a batch through several processes in training.

    Args:
        model: has the same weights afterwards

    """

    def __init__(self, model: Classifier) -> None:
        super().__init__(model.network, model.labels, model.frontend)
        # kept out of the module's own parts: its weights are the network's
        self.__dict__["parallel"] = _accelerator().prepare_model(model)

    def forward(self, waveform_z: Tensor, lengths: Tensor) -> Tensor:
        shares = torch.arange(len(waveform_z)).tensor_split(processes())
        rows = shares[rank()]
        if len(rows) == 0:  # takes part with a row that does not count
            rows = torch.zeros(1, dtype=torch.long)
        rows = rows.to(waveform_z.device)
        # all draw the same number here, and masks of their own from it
        drawn = int(torch.randint(2**31, (1,)))
        with seeded(drawn, rank()):
            logits = self.__dict__["parallel"](waveform_z[rows], lengths[rows])
        # back comes the gradient from each process: as many times as their mean divides it
        padded = pad(logits, (0, 0, 0, max(1, len(shares[0])) - len(logits)))
        everyone = all_gather(padded)
        return torch.cat([part[: len(s)] for part, s in zip(everyone, shares, strict=True)])
