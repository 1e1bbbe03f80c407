"""Corpora of words and of speakers: folders are words, lists are splits, and gaps are named."""

import importlib
from pathlib import Path

import pandas as pd
import pytest
from conftest import write_clip

from speechunlearn import corpora
from speechunlearn.corpora import arabic_speech_commands, base, speech_commands
from speechunlearn.errors import CorpusError

SPEAKERS = ("0a1b2c3d", "4e5f6071", "8293a4b5")
AUXILIARY = ("bed", "visual")


def read(name: str, root: Path, **kwargs) -> pd.DataFrame:
    return corpora.read_manifest(name, root, **kwargs)


def by_file(manifest: pd.DataFrame, column: str) -> dict[str, str]:
    """Column by word folder and file name."""
    names = ["/".join(Path(path).parts[-2:]) for path in manifest["path"]]
    return dict(zip(names, manifest[column], strict=True))


@pytest.fixture
def words_root(tmp_path):
    """Speech Commands as published: twelve words of three speakers, noise, the two lists."""
    root = tmp_path / "speech_commands"
    for i, word in enumerate((*speech_commands.TEN, *AUXILIARY)):
        for j, speaker in enumerate(SPEAKERS):
            write_clip(root / word / f"{speaker}_nohash_0.wav", seed=10 * i + j)
    write_clip(root / "_background_noise_" / "pink_noise.wav", seed=999, seconds=2)
    (root / "_background_noise_" / "README.md").write_text("of the noises")
    words = (*speech_commands.TEN, *AUXILIARY)
    (root / "validation_list.txt").write_text(
        "".join(f"{word}/{SPEAKERS[1]}_nohash_0.wav\n" for word in words)
    )
    (root / "testing_list.txt").write_text(
        "".join(f"{word}/{SPEAKERS[2]}_nohash_0.wav\n" for word in words)
    )
    return root


@pytest.fixture
def archive_root(tmp_path):
    """The test archive: the ten words, unknown words and silence, without lists."""
    root = tmp_path / "test_archive"
    for i, word in enumerate(speech_commands.TEN):
        for j, speaker in enumerate(SPEAKERS):
            write_clip(root / word / f"{speaker}_nohash_{j}.wav", seed=10 * i + j)
    for j, speaker in enumerate(SPEAKERS):
        write_clip(root / "_unknown_" / f"bed_{speaker}_nohash_0.wav.wav", seed=500 + j)
        write_clip(root / "_silence_" / f"{j}.wav", seed=600 + j)
    return root


# Speech Commands


def test_all_words_with_the_official_split(words_root, caplog):
    manifest = read("speech_commands", words_root)
    assert len(manifest) == 12 * 3
    assert set(manifest["label"]) == {*speech_commands.TEN, *AUXILIARY}
    assert set(manifest["corpus"]) == {"speech_commands"} and set(manifest["gender"]) == {""}
    expected = {SPEAKERS[0]: "train", SPEAKERS[1]: "validation", SPEAKERS[2]: "test"}
    assert manifest.groupby("speaker")["split"].unique().map(list).to_dict() == {
        speaker: [split] for speaker, split in expected.items()
    }
    assert not caplog.records


def test_the_split_of_a_clip_is_its_own(words_root):
    # The same file name in two words: only one of them is listed.
    write_clip(words_root / "yes" / f"{SPEAKERS[0]}_nohash_7.wav", seed=201)
    write_clip(words_root / "no" / f"{SPEAKERS[0]}_nohash_7.wav", seed=202)
    with (words_root / "testing_list.txt").open("a") as file:
        file.write(f"no/{SPEAKERS[0]}_nohash_7.wav\n")
    splits = by_file(read("speech_commands", words_root), "split")
    assert splits[f"yes/{SPEAKERS[0]}_nohash_7.wav"] == "train"
    assert splits[f"no/{SPEAKERS[0]}_nohash_7.wav"] == "test"


def test_lists_name_flac_files_too(words_root):
    wav = words_root / "up" / f"{SPEAKERS[2]}_nohash_0.wav"
    wav.unlink()
    write_clip(wav.with_suffix(".flac"), seed=77)
    assert by_file(read("speech_commands", words_root), "split")[f"up/{wav.stem}.flac"] == "test"


def test_without_lists_there_is_no_split(words_root):
    for name in speech_commands.LISTS.values():
        (words_root / name).unlink()
    assert set(read("speech_commands", words_root)["split"]) == {""}


@pytest.mark.parametrize("name", ["validation_list.txt", "testing_list.txt"])
def test_half_of_the_official_split(words_root, name):
    (words_root / name).unlink()
    with pytest.raises(CorpusError, match=f"no {name}, which the official split needs"):
        read("speech_commands", words_root)


def test_a_line_that_names_no_clip(words_root):
    with (words_root / "testing_list.txt").open("a") as file:
        file.write("clip.wav\n")
    with pytest.raises(CorpusError, match=r"testing_list.txt: line 13 is not <word>/<file>: 'cl"):
        read("speech_commands", words_root)


def test_a_clip_in_both_lists(words_root):
    with (words_root / "testing_list.txt").open("a") as file:
        file.write(f"yes/{SPEAKERS[1]}_nohash_0.wav\n")
    with pytest.raises(CorpusError, match=r"testing_list.txt: line 13 is also in validation_list"):
        read("speech_commands", words_root)


def test_a_listed_clip_that_is_missing(words_root):
    lost = words_root / "bed" / f"{SPEAKERS[1]}_nohash_0.wav"
    lost.unlink()
    with pytest.raises(CorpusError, match=f"1 bad clip.*{lost}: listed in the official split"):
        read("speech_commands", words_root)
    assert len(read("speech_commands", words_root, skip_bad=True)) == 35


def test_the_same_audio_on_two_sides_of_the_official_split(words_root):
    copy = words_root / "go" / f"{SPEAKERS[2]}_nohash_0.wav"
    copy.write_bytes((words_root / "go" / f"{SPEAKERS[0]}_nohash_0.wav").read_bytes())
    with pytest.raises(CorpusError, match=f"{copy}: in split 'test' with the same audio as"):
        read("speech_commands", words_root)
    kept = by_file(read("speech_commands", words_root, skip_bad=True), "split")
    assert f"go/{copy.name}" not in kept and len(kept) == 35


def test_ten_words(words_root):
    manifest = read("speech_commands_10", words_root)
    assert len(manifest) == 30
    assert corpora.get("speech_commands_10").labels == speech_commands.TEN
    assert set(manifest["label"]) == set(speech_commands.TEN)
    assert set(manifest["split"]) == set(base.SPLITS)


def test_twelve_classes_of_the_whole_corpus(words_root):
    manifest = read("speech_commands_12", words_root)
    labels = by_file(manifest, "label")
    assert len(labels) == 36
    for word in (*speech_commands.TEN, *AUXILIARY):
        label = word if word in speech_commands.TEN else "_unknown_"
        assert labels[f"{word}/{SPEAKERS[0]}_nohash_0.wav"] == label
    assert set(manifest["split"]) == set(base.SPLITS)


def test_twelve_classes_of_the_test_archive(archive_root):
    manifest = read("speech_commands_12", archive_root)
    counts = dict.fromkeys((*speech_commands.TEN, "_unknown_", "_silence_"), 3)
    assert manifest["label"].value_counts().to_dict() == counts
    assert corpora.get("speech_commands_12").labels == tuple(counts)
    speakers = manifest.groupby("label")["speaker"].unique()
    assert sorted(speakers["_unknown_"]) == sorted(SPEAKERS)
    assert sorted(speakers["_silence_"]) == ["_silence_0", "_silence_1", "_silence_2"]


@pytest.mark.parametrize("name", ["speech_commands", "speech_commands_10"])
def test_words_of_the_test_archive(archive_root, name, caplog):
    manifest = read(name, archive_root)
    assert set(manifest["label"]) == set(speech_commands.TEN) and len(manifest) == 30
    assert "the layout of the test archive" in caplog.text


@pytest.mark.parametrize("name", ["speech_commands_10", "speech_commands_12"])
def test_a_command_word_without_folder(archive_root, name):
    for path in (archive_root / "off").iterdir():
        path.unlink()
    (archive_root / "off").rmdir()
    with pytest.raises(CorpusError, match=r"test_archive: no folder for the word\(s\) off$"):
        read(name, archive_root)
    assert len(read("speech_commands", archive_root)) == 27


@pytest.mark.parametrize("leftover", [None, "notes.txt", "._hidden.wav"])
def test_an_empty_word_folder(words_root, leftover):
    (words_root / "tree").mkdir()
    if leftover:
        (words_root / "tree" / leftover).write_text("no clip")
    with pytest.raises(CorpusError, match=f"{words_root / 'tree'}: no .wav or .flac file in a wo"):
        read("speech_commands", words_root, skip_bad=True)


def test_a_root_one_folder_too_high(words_root):
    with pytest.raises(CorpusError, match=f"{words_root}: no .wav or .flac file in a word folder"):
        read("speech_commands", words_root.parent)


@pytest.mark.parametrize("name", ["yes.wav", "yes/deep/0a1b2c3d_nohash_3.wav"])
def test_a_clip_elsewhere(words_root, name):
    write_clip(words_root / name, seed=5)
    with pytest.raises(CorpusError, match=f"{name}: not directly in a word folder"):
        read("speech_commands", words_root)


@pytest.mark.parametrize("name", ["holiday.wav", "0a1b2c3d_0.wav", "0a1b2c3d_nohash_x.wav"])
def test_speech_commands_refuses_other_names(words_root, name):
    write_clip(words_root / "yes" / name, seed=5)
    with pytest.raises(CorpusError, match=f"yes/{name}: the name does not follow"):
        read("speech_commands", words_root)


def test_one_file_name_twice_in_a_word(words_root):
    write_clip(words_root / "yes" / f"{SPEAKERS[0]}_nohash_0.wav.flac", seed=5)
    with pytest.raises(CorpusError, match=r"yes/0a1b2c3d_nohash_0.wav.flac: a second file of"):
        read("speech_commands", words_root)


def test_a_word_of_one_speaker(words_root):
    write_clip(words_root / "wow" / f"{SPEAKERS[0]}_nohash_0.wav", seed=5)
    with pytest.raises(CorpusError, match="label 'wow' has one speaker only, '0a1b2c3d'"):
        read("speech_commands", words_root)


def test_speech_commands_agrees_with_torchaudio(words_root):
    module = importlib.import_module("torchaudio.datasets.speechcommands")
    folder = words_root.parent / module.FOLDER_IN_ARCHIVE
    folder.mkdir()
    (folder / module.URL).symlink_to(words_root)
    manifest = read("speech_commands", words_root)
    for split, theirs in zip(base.SPLITS, ("training", "validation", "testing"), strict=True):
        corpus = module.SPEECHCOMMANDS(words_root.parent, subset=theirs)
        expected = set()
        for i in range(len(corpus)):
            path, _, label, speaker, _ = corpus.get_metadata(i)
            expected.add(("/".join(Path(path).parts[-2:]), label, speaker))
        part = manifest[manifest["split"] == split]
        ours = zip(by_file(part, "label"), part["label"], part["speaker"], strict=True)
        assert set(ours) == expected and len(expected) == 12


def test_hashes_are_those_of_torchaudio():
    module = importlib.import_module("torchaudio.datasets.speechcommands")
    ours = {a.url: a.hash for a in corpora.get("speech_commands").archives}
    assert ours == {url: f"sha256:{digest}" for url, digest in module._CHECKSUMS.items()}


def test_the_real_test_archive(real_speech):
    folder = real_speech("speech_commands")
    words = read("speech_commands_10", folder)
    assert len(words) == 4074 and words["speaker"].nunique() == 239
    assert words[words["hash"].duplicated(keep=False)]["hash"].nunique() == 119
    labels = speech_commands.TWELVE_CLASSES.read(folder)[0]
    assert sum(clip.label == "_unknown_" for clip in labels) == 408
    assert all(len(clip.speaker) == 8 for clip in labels)


# Arabic Speech Commands


@pytest.fixture
def arabic_root(tmp_path):
    """Four words, one with a space in its name, of two speakers."""
    root = tmp_path / "arabic"
    for i, word in enumerate(("zoom in", "zoom out", "yes", "zero")):
        for speaker in (1, 2):
            name = f"{speaker:08d}_NO_{i + 1:02d}.wav"
            write_clip(root / "dataset" / word / name, seed=10 * i + speaker)
    return root


def test_arabic_words_with_or_without_the_outer_folder(arabic_root, caplog):
    write_clip(arabic_root / "background_noise" / "tv.wav", seed=99)
    manifest = read("arabic_speech_commands", arabic_root)
    assert "8 of 12000 clips, 2 of 30 speakers" in caplog.text
    assert manifest["label"].value_counts().to_dict() == dict.fromkeys(
        ("zoom in", "zoom out", "yes", "zero"), 2
    )
    assert sorted(set(manifest["speaker"])) == ["00000001", "00000002"]
    assert set(manifest["split"]) == set(manifest["gender"]) == {""}
    pd.testing.assert_frame_equal(manifest, read("arabic_speech_commands", arabic_root / "dataset"))


@pytest.mark.parametrize(
    ("name", "reason"),
    [("yes/1_nohash_0.wav", "does not follow"), ("wow/00000001_NO_01.wav", "'wow' is none of the")],
)
def test_arabic_refuses_other_names(arabic_root, name, reason):
    write_clip(arabic_root / "dataset" / name, seed=5)
    with pytest.raises(CorpusError, match=f"{name}: .*{reason}"):
        read("arabic_speech_commands", arabic_root)


def test_an_empty_arabic_word(arabic_root):
    (arabic_root / "dataset" / "stop").mkdir()
    with pytest.raises(CorpusError, match="dataset/stop: no .wav or .flac file in a word folder"):
        read("arabic_speech_commands", arabic_root)


def test_complete_arabic_is_counted(tmp_path, monkeypatch):
    for word in arabic_speech_commands.WORDS:
        (tmp_path / word).mkdir()
        for speaker in range(1, 31):
            for take in range(1, 11):
                (tmp_path / word / f"{speaker:08d}_NO_{take:02d}.wav").touch()
    (tmp_path / "zoom in" / "00000007_NO_05.wav").unlink()

    def decode_nothing(path: Path) -> None:
        raise AssertionError(f"{path} was read")

    monkeypatch.setattr(base, "decode", decode_nothing)
    with pytest.raises(
        CorpusError,
        match="the whole has 11999 clips, not 12000; the whole has 299 of zoom in, not 300$",
    ):
        read("arabic_speech_commands", tmp_path)


def test_real_arabic_words(real_speech):
    clips, bad = corpora.get("arabic_speech_commands").read(real_speech("arabic_speech_commands"))
    assert not bad and len(clips) == 3600
    table = pd.DataFrame(clips)
    assert table["label"].value_counts().to_dict() == dict.fromkeys(
        arabic_speech_commands.WORDS, 90
    )
    assert set(table["speaker"].value_counts()) == {120} and table["speaker"].nunique() == 30


# VoxCeleb1


@pytest.fixture
def voxceleb_root(tmp_path):
    """Three speakers with a training, a validation and a test clip each."""
    root = tmp_path / "voxceleb"
    lines = []
    for i, speaker in enumerate(("id10001", "id10002", "id11251")):
        for part in (1, 2, 3):
            path = f"{speaker}/video{part}/00001.wav"
            write_clip(root / "wav" / path, seed=10 * i + part)
            lines.append(f"{part} {path}\n")
    (root / "iden_split.txt").write_text("".join(lines))
    return root


def test_voxceleb_agrees_with_torchaudio(voxceleb_root, caplog):
    module = importlib.import_module("torchaudio.datasets.voxceleb1")
    manifest = read("voxceleb1", voxceleb_root)
    assert len(manifest) == 9
    assert manifest["label"].tolist() == manifest["speaker"].tolist()
    assert not caplog.records  # each speaker is in every part on purpose
    for split, theirs in zip(base.SPLITS, ("train", "dev", "test"), strict=True):
        corpus = module.VoxCeleb1Identification(voxceleb_root, subset=theirs)
        expected = set()
        for i in range(len(corpus)):
            path, _, speaker, _ = corpus.get_metadata(i)
            expected.add((str(voxceleb_root / "wav" / path), f"id{speaker + 10000}"))
        part = manifest[manifest["split"] == split]
        assert set(zip(part["path"], part["speaker"], strict=True)) == expected
        assert len(expected) == 3


def test_voxceleb_in_flac(voxceleb_root):
    wav = voxceleb_root / "wav" / "id10002" / "video2" / "00001.wav"
    wav.unlink()
    write_clip(wav.with_suffix(".flac"), seed=77)
    manifest = read("voxceleb1", voxceleb_root)
    assert str(wav.with_suffix(".flac")) in set(manifest["path"]) and len(manifest) == 9


def test_a_listed_clip_of_voxceleb_that_is_missing(voxceleb_root):
    lost = voxceleb_root / "wav" / "id10002" / "video3" / "00001.wav"
    lost.unlink()
    with pytest.raises(CorpusError, match=f"1 bad clip.*{lost}: no such file"):
        read("voxceleb1", voxceleb_root)
    manifest = read("voxceleb1", voxceleb_root, skip_bad=True)
    assert manifest.attrs["skipped"] == [(str(lost), "no such file")] and len(manifest) == 8


def test_voxceleb_without_its_parts(voxceleb_root, tmp_path):
    with pytest.raises(CorpusError, match="nowhere: no such folder"):
        read("voxceleb1", tmp_path / "nowhere")
    (voxceleb_root / "wav").rename(voxceleb_root / "aac")
    with pytest.raises(CorpusError, match="voxceleb: no folder wav"):
        read("voxceleb1", voxceleb_root)
    (voxceleb_root / "iden_split.txt").unlink()
    with pytest.raises(CorpusError, match="voxceleb: no iden_split.txt, the list of the ident"):
        read("voxceleb1", voxceleb_root)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("4 id10001/v/00001.wav", "line 10 is not <1|2|3>"),
        ("1 ../../etc/passwd.wav", "line 10 is not"),
        ("id10001/v/00001.wav", "line 10 is not"),
        ("2 id10001/video1/00001.wav", "line 10 lists id10001/video1/00001.wav again"),
    ],
)
def test_a_list_of_voxceleb_that_cannot_be_read(voxceleb_root, line, reason):
    with (voxceleb_root / "iden_split.txt").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(CorpusError) as error:
        read("voxceleb1", voxceleb_root)
    assert f"iden_split.txt: {reason}" in str(error.value)


def test_an_empty_list_of_voxceleb(voxceleb_root):
    (voxceleb_root / "iden_split.txt").write_text("")
    with pytest.raises(CorpusError, match="iden_split.txt: an empty list"):
        read("voxceleb1", voxceleb_root)
