"""Tiny corpora, made anew for each test, and the optional real speech."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from filelock import FileLock

REPOSITORY = Path(__file__).resolve().parents[1]

torch.set_num_threads(min(2, torch.get_num_threads()))


def write_clip(
    path: Path,
    seed: int = 0,
    seconds: float = 0.3,
    sampling_rate: int = 16000,
    channels: int = 1,
    subtype: str = "PCM_16",
) -> Path:
    """Write a noisy tone; clips of different seeds differ in content."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * sampling_rate)) / sampling_rate
    tone = 0.3 * np.sin(2 * np.pi * rng.uniform(100, 400) * time)
    samples = tone[:, None] + 0.05 * rng.standard_normal((len(time), channels))
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples.astype(np.float32), sampling_rate, subtype=subtype)
    return path


@pytest.fixture(autouse=True)
def _instructions() -> Iterator[None]:
    """Take back what ``profiles.prepare_process`` leaves to the children of this process.

    Here torch has chosen its instructions by then: those of a child would be others.
    """
    names = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "MKL_CBWR")
    before = {name: os.environ.get(name) for name in names}
    yield
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Gives a folder by its name, which a function fills once for all processes of a test run."""
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent

    def folder(name: str, make: Callable[[Path], object]) -> Path:
        with FileLock(base / f"{name}.lock"):
            if not (base / name).is_dir():
                unfinished = base / f"{name}.unfinished"
                shutil.rmtree(unfinished, ignore_errors=True)
                unfinished.mkdir()
                make(unfinished)
                unfinished.rename(base / name)
        return base / name

    return folder


_GENERATE = """
import sys; sys.path[:0] = sys.argv[1:]
import generate, torchless
from pathlib import Path
target = Path(sys.argv[1]) / "generated"
(target / "methods").mkdir(parents=True)
generate.method_pages(target)
generate.pool_page(target / "pool.md")
generate.pooled.pages(target / "pools.md", [method.name for method in generate.own_methods()])
numbers = generate.landing_page(target)
notebooks = sorted((generate.ROOT / "notebooks").glob("*.ipynb"))
generate.request_page(target / "request.md", notebooks)
generate.status_page(target / "status.md", notebooks)
generate.measured.pages(generate.ROOT / "book" / "metrics", target / "metrics")
(target / "citing.md").write_text(generate.citing())
torchless.check()
assert numbers["provenance"]
"""


@pytest.fixture(scope="session")
def generated(made_once: Callable[..., Path]) -> Path:
    """The snippets of the pages that show results, made from committed data.

    A torch that cannot be imported is first on the path, as where none is installed.
    """

    def make(folder: Path) -> None:
        (folder / "torch.py").write_text("raise ImportError('no torch here')\n")
        command = [sys.executable, "-c", _GENERATE, str(folder), str(REPOSITORY / "book")]
        subprocess.run(command, check=True, cwd=REPOSITORY)

    return made_once("generated", make) / "generated"


@pytest.fixture
def clip_writer() -> Callable[..., Path]:
    """The function :func:`write_clip`."""
    return write_clip


@pytest.fixture
def demos_root(tmp_path: Path) -> Path:
    """Seven emotions of six DEMoS speakers, two in each part of the split, and a neutral clip."""
    root = tmp_path / "demos"
    codes = ("rab", "dis", "pau", "col", "gio", "tri", "sor")
    for i, voice in enumerate(("f_01", "m_02", "f_40", "m_18", "f_49", "m_42")):
        for j, code in enumerate(codes):
            kind = "PR" if j % 2 else "NP"
            write_clip(root / "DEMOS" / f"{kind}_{voice}_{code}{j:02d}a.wav", seed=10 * i + j)
    write_clip(root / "NEU" / "f_01_neu00a.wav", seed=1000)
    return root


@pytest.fixture
def ravdess_root(tmp_path: Path) -> Path:
    """Two RAVDESS emotions of four actors as published: 48 kHz, one actor in stereo."""
    root = tmp_path / "ravdess"
    for actor in range(1, 5):
        for emotion in (3, 4):
            name = f"03-01-{emotion:02d}-01-01-01-{actor:02d}.wav"
            write_clip(
                root / f"Actor_{actor:02d}" / name,
                seed=10 * actor + emotion,
                sampling_rate=48000,
                channels=2 if actor == 1 else 1,
            )
    return root


@pytest.fixture
def csv_file(tmp_path: Path) -> Path:
    """A CSV of six clips in a sub-folder: two labels, each of three speakers."""
    lines = ["path,label,speaker"]
    for i in range(6):
        clip = write_clip(tmp_path / "mine" / "clips" / f"{i}.wav", seed=i)
        lines.append(f"clips/{clip.name},{'yes' if i % 2 else 'no'},speaker {i // 2}")
    file = tmp_path / "mine" / "clips.csv"
    file.write_text("\n".join(lines) + "\n")
    return file


@pytest.fixture
def real_speech() -> Callable[[str], Path]:
    """Gives the folder of a real corpus by its name; skips the test where it is absent.

    The corpora lie in the folder that the environment variable ``SPEECHUNLEARN_DATA``
    names, by default in ``shared/data`` beside the repository.
    """
    default = REPOSITORY.parent / "shared" / "data"
    base = Path(os.environ.get("SPEECHUNLEARN_DATA", default))

    def folder(corpus: str) -> Path:
        if not (base / corpus).is_dir():
            pytest.skip(
                f"no {corpus!r} in {base}: set SPEECHUNLEARN_DATA to the folder that has it"
            )
        return base / corpus

    return folder


@pytest.fixture
def words_root(tmp_path: Path) -> Path:
    """Four words of eight speakers, two takes each, in the layout of Speech Commands."""
    root = tmp_path / "words"
    for i, word in enumerate(("down", "no", "up", "yes")):
        for speaker in range(8):
            for take in range(2):
                name = f"{speaker:08x}_nohash_{take}.wav"
                write_clip(root / word / name, seed=1000 * i + 10 * speaker + take)
    return root
