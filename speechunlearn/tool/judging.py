"""The audit alone, of anyone's model: ``speechunlearn audit``."""

from collections.abc import Sequence
from pathlib import Path

from speechunlearn.errors import lack_is_told
from speechunlearn.tool import evaluate, output_folder, reports
from speechunlearn.tool.unlearning import Done, assessed, check_seed, described, prepare


@lack_is_told()
def audit(
    model: str | Path,
    forget: str | Path,
    *,
    unseen: str | Path | None = None,
    retain: str | Path | None = None,
    references: Sequence[str | Path] = (),
    original: str | Path | None = None,
    out: str | Path | None = None,
    seed: int = 0,
    root: str | Path | None = None,
    allow_outside: bool = False,
) -> Done:
    """Judge a model that is said to have forgotten clips.

    Args:
        model: folder or hub id of the judged checkpoint
        forget: CSV of the clips it is said to have forgotten: path, label, optionally speaker
        unseen: CSV of clips it was not trained on: the other side of the attacks
        retain: CSV of clips that it was trained on and keeps
        references: checkpoints retrained without the forget clips, from different seeds; with two
            or more, and unseen clips, the model gets a report card
        original: the checkpoint before unlearning, judged beside it
        out: folder for ``report.json`` and ``report.html``, empty or not there; None writes none
        seed: of the bootstrap and of the attacks' folds
        root: see `speechunlearn.tool.forget`
        allow_outside: see `speechunlearn.tool.forget`

    Raises:
        SpeechUnlearnError: anything that can't be used

    """
    check_seed(seed)
    folder = None if out is None else output_folder.path("out", out)
    if folder is not None:
        output_folder.check_not_inside(folder, output_folder.path("model", model))
        output_folder.check_free(folder)
    files = {"forget": forget, "retain": retain, "unseen": unseen}
    prepared = prepare(model, files, root=root, allow_outside=allow_outside)
    judged = {"model": prepared.model}
    if original is not None:
        judged = {"original": prepared.load(original, "original")} | judged
    judges = prepared.references(references, *judged.values())
    report = described(prepared) | {"kind": "audit", "seed": seed}
    report |= assessed(judged, prepared.sets, judges, seed=seed)
    report["notes"] = [*prepared.notes, *evaluate.doubts(report)]
    report = output_folder.plain(report)
    if folder is None:
        return Done(Path(), report)
    with output_folder.folder(folder) as unfinished:
        written = output_folder.anew(unfinished)
        reports.write(report, written)
        output_folder.write_report(report, written)
        output_folder.publish(written, folder)
        output_folder.clear(unfinished)
    return Done(folder, report)
