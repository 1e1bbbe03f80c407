"""Downloads go on where they broke off, and trust nothing that the hash does not."""

import hashlib
import io
import logging
import random
import re
import stat
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner

from speechunlearn import cli, corpora
from speechunlearn.corpora import base, download
from speechunlearn.errors import CorpusError


class Handler(BaseHTTPRequestHandler):
    """Serves ``server.files``; may ignore ranges, or hang up after so many bytes."""

    def do_GET(self) -> None:  # noqa: N802
        content = self.server.files.get(self.path.lstrip("/"))
        self.server.requests.append((self.path, self.headers.get("Range")))
        if content is None:
            self.send_error(404)
            return
        start = 0
        if self.server.ranges and (asked := self.headers.get("Range")):
            start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])
            if start >= len(content):
                self.send_error(416)
                return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start:][: self.server.hang_up_after])

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.files, server.requests = {}, []
        server.ranges, server.hang_up_after = True, None
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def tar_of(members: dict[str, bytes | tarfile.TarInfo]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in members.items():
            if isinstance(content, tarfile.TarInfo):
                tar.addfile(content)
                continue
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def zip_of(members: dict[str, bytes], link: str | None = None) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        if link:
            info = zipfile.ZipInfo("link")
            info.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(info, link)
    return buffer.getvalue()


GOOD = {"./yes/0a1b2c3d_nohash_0.wav": b"audio" * 5000, "./LICENSE": b"CC BY"}


def corpus_of(server, content: bytes, name: str = "words.tar.gz", digest: str = "") -> base.Corpus:
    server.files[name] = content
    digest = digest or f"sha256:{hashlib.sha256(content).hexdigest()}"
    url = f"http://127.0.0.1:{server.server_address[1]}/{name}"
    return base.Corpus(
        "words", "Words", "none", "by hand", "keyword", lambda root: ([], []),
        archives=(base.Archive("1", url, digest),),
    )  # fmt: skip


def work_folder(root: Path) -> Path:
    return root.with_name(f".{root.name}.download")


def files(root: Path) -> dict[str, bytes]:
    found = (path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in found}


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_a_corpus_is_downloaded_and_unpacked(server, tmp_path, kind):
    root = tmp_path / "new" / "words"
    content, name = (tar_of(GOOD), "w.tar.gz") if kind == "tar" else (zip_of(GOOD), "w.zip")
    assert download.download(corpus_of(server, content, name), root) == root
    assert files(root) == {name.removeprefix("./"): data for name, data in GOOD.items()}
    assert list(root.parent.iterdir()) == [root]  # nothing is left beside it


def test_an_md5_is_checked_too(server, tmp_path):
    content = zip_of(GOOD)
    good = f"md5:{hashlib.md5(content).hexdigest()}"
    download.download(corpus_of(server, content, "w.zip", good), tmp_path / "a")
    bad = corpus_of(server, content, "w.zip", f"md5:{'0' * 32}")
    with pytest.raises(CorpusError, match="does not match the known hash: expected md5:000"):
        download.download(bad, tmp_path / "b")


def test_an_interrupted_download_goes_on(server, tmp_path):
    noise = random.Random(0).randbytes(300_000)
    content = tar_of({"yes/a.wav": noise})
    corpus, root = corpus_of(server, content), tmp_path / "words"
    server.hang_up_after = 200_000
    with pytest.raises(CorpusError, match="words.tar.gz: the download broke off and can be conti"):
        download.download(corpus, root)
    assert not root.exists()
    [(name, part)] = files(work_folder(root)).items()
    assert name == "words.tar.gz.part" and part == content[: 3 * 2**16]
    server.hang_up_after = None
    download.download(corpus, root)
    assert server.requests == [("/words.tar.gz", None), ("/words.tar.gz", f"bytes={3 * 2**16}-")]
    assert files(root) == {"yes/a.wav": noise}


def test_a_server_without_ranges_starts_again(server, tmp_path):
    content = tar_of({**GOOD, "noise": random.Random(0).randbytes(100_000)})
    corpus, root = corpus_of(server, content), tmp_path / "words"
    server.ranges, server.hang_up_after = False, 70_000
    for _ in range(2):
        with pytest.raises(CorpusError, match="broke off"):
            download.download(corpus, root)
        assert files(work_folder(root)) == {"words.tar.gz.part": content[: 2**16]}
    server.hang_up_after = None
    download.download(corpus, root)
    assert len(files(root)) == 3


def test_a_part_that_is_the_whole(server, tmp_path):
    content = tar_of(GOOD)
    corpus, root = corpus_of(server, content), tmp_path / "words"
    work_folder(root).mkdir()
    (work_folder(root) / "words.tar.gz.part").write_bytes(content)
    download.download(corpus, root)
    assert len(files(root)) == 2


@pytest.mark.parametrize("rubbish", [b"x" * 10, b"x" * 10**6])
def test_a_part_of_something_else_is_not_trusted(server, tmp_path, rubbish):
    corpus, root = corpus_of(server, tar_of(GOOD)), tmp_path / "words"
    work_folder(root).mkdir()
    (work_folder(root) / "words.tar.gz.part").write_bytes(rubbish)
    with pytest.raises(CorpusError, match="does not match the known hash"):
        download.download(corpus, root)
    assert not root.exists() and files(work_folder(root)) == {}
    download.download(corpus, root)
    assert len(files(root)) == 2


def test_a_wrong_hash_is_refused(server, tmp_path):
    content = tar_of(GOOD)
    found = hashlib.sha256(content).hexdigest()
    corpus, root = corpus_of(server, content, digest=f"sha256:{'0' * 64}"), tmp_path / "words"
    with pytest.raises(CorpusError) as error:
        download.download(corpus, root)
    for part in ("words.tar.gz", "0" * 64, found):
        assert part in str(error.value)
    assert not root.exists() and files(work_folder(root)) == {}


def test_an_archive_that_was_changed_on_disk_is_fetched_again(server, tmp_path):
    corpus, root = corpus_of(server, tar_of(GOOD)), tmp_path / "words"
    work_folder(root).mkdir()
    (work_folder(root) / "words.tar.gz").write_bytes(b"changed")
    download.download(corpus, root)
    assert len(files(root)) == 2


def test_a_killed_extraction_is_not_trusted(server, tmp_path):
    corpus, root = corpus_of(server, tar_of(GOOD)), tmp_path / "words"
    half = work_folder(root) / "unpacked" / "yes" / "half.wav"
    half.parent.mkdir(parents=True)
    half.write_text("of the first run")
    (work_folder(root) / "words.tar.gz").write_bytes(tar_of(GOOD))
    download.download(corpus, root)
    assert "yes/half.wav" not in files(root) and len(files(root)) == 2


def test_a_file_that_the_server_does_not_have(server, tmp_path):
    corpus = corpus_of(server, tar_of(GOOD))
    server.files.clear()
    with pytest.raises(CorpusError, match=r"words.tar.gz: the download broke off.*404"):
        download.download(corpus, tmp_path / "words")
    assert files(tmp_path) == {}  # the error page is not taken for a part


def member(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


EVIL_TARS = {
    "../evil.wav": b"x",
    "yes/../../evil.wav": b"x",
    "/tmp/evil.wav": b"x",
    "..\\evil.wav": b"x",
    "C:/evil.wav": b"x",
    "out": member("out", tarfile.SYMTYPE, "../.."),
    "hard": member("hard", tarfile.LNKTYPE, "../../secret"),
    "device": member("device", tarfile.CHRTYPE),
}


@pytest.mark.parametrize("name", EVIL_TARS)
def test_an_evil_tar_is_refused_before_anything_is_unpacked(server, tmp_path, name):
    content = tar_of({**GOOD, name: EVIL_TARS[name]})
    root = tmp_path / "deep" / "words"
    with pytest.raises(CorpusError) as error:
        download.download(corpus_of(server, content), root)
    assert f"member {name!r}" in str(error.value)
    assert files(tmp_path) == {"deep/.words.download/words.tar.gz": content}


@pytest.mark.parametrize("name", ["../evil.wav", "yes/../../evil.wav", "/tmp/evil.wav", "C:/evil"])
def test_an_evil_zip_is_refused_before_anything_is_unpacked(server, tmp_path, name):
    content = zip_of({**GOOD, name: b"x"})
    with pytest.raises(CorpusError) as error:
        download.download(corpus_of(server, content, "w.zip"), tmp_path / "deep" / "words")
    assert f"member {name!r} would lie outside" in str(error.value)
    assert files(tmp_path) == {"deep/.words.download/w.zip": content}


def test_a_link_in_a_zip_is_refused(server, tmp_path):
    content = zip_of(GOOD, link="../../secret")
    with pytest.raises(CorpusError, match="member 'link' is neither file nor folder"):
        download.download(corpus_of(server, content, "w.zip"), tmp_path / "words")
    assert not (tmp_path / "words").exists()


@pytest.mark.parametrize("content", [b"no archive", tar_of(GOOD)[:-40], zip_of(GOOD)[:-40]])
def test_a_damaged_archive(server, tmp_path, content):
    with pytest.raises(CorpusError, match="words.tar.gz: cannot be unpacked"):
        download.download(corpus_of(server, content), tmp_path / "words")
    assert not (tmp_path / "words").exists()


def test_a_root_that_holds_something_is_left_alone(server, tmp_path):
    corpus = corpus_of(server, tar_of(GOOD))
    (tmp_path / "mine.wav").write_text("mine")
    for root in (tmp_path, tmp_path / "mine.wav"):
        with pytest.raises(CorpusError, match=f"{root}: there already"):
            download.download(corpus, root)
    assert files(tmp_path) == {"mine.wav": b"mine"} and not server.requests


def test_an_empty_root_is_used(server, tmp_path):
    (tmp_path / "words").mkdir()
    download.download(corpus_of(server, tar_of(GOOD)), tmp_path / "words")
    assert len(files(tmp_path / "words")) == 2


def test_a_root_that_cannot_be_made(server, tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(CorpusError, match="file/words: "):
        download.download(corpus_of(server, tar_of(GOOD)), tmp_path / "file" / "words")


@pytest.mark.parametrize("name", ["voxceleb1", "arabic_speech_commands", "demos", "embedded"])
def test_what_cannot_be_downloaded_says_how_to_get_it(tmp_path, name):
    corpus = corpora.get(name)
    with pytest.raises(CorpusError) as error:
        download.download(corpus, tmp_path / "new")
    assert f"{name!r} cannot be downloaded" in str(error.value)
    assert corpus.how_to_get in str(error.value) and not list(tmp_path.iterdir())


def test_an_unknown_version_names_the_known_ones(tmp_path):
    with pytest.raises(CorpusError, match=r"version: .* has no '3'; known: 0.02, 0.01$"):
        download.download(corpora.get("speech_commands"), tmp_path / "new", "3")


def test_every_archive_of_the_registry_has_a_hash():
    for corpus in corpora.known().values():
        versions = [archive.version for archive in corpus.archives]
        assert len(set(versions)) == len(versions)
        for archive in corpus.archives:
            assert re.fullmatch("sha256:[0-9a-f]{64}|md5:[0-9a-f]{32}", archive.hash)
            assert archive.name.endswith((".tar.gz", ".zip"))


def test_the_command_line(server, tmp_path, monkeypatch):
    corpus = corpus_of(server, tar_of(GOOD))
    monkeypatch.setattr(corpora, "known", lambda: {corpus.name: corpus})
    listed = CliRunner().invoke(cli.app, ["corpora"])
    assert "or: speechunlearn download words --root DIR (1)" in listed.output
    root = tmp_path / "words"
    done = CliRunner().invoke(
        cli.app, ["download", "words", "--root", str(root), "--version", "1"],
        catch_exceptions=False,
    )  # fmt: skip
    assert done.exit_code == 0 and str(root) in done.stderr
    assert len(files(root)) == 2
    again = CliRunner().invoke(cli.app, ["download", "words", "--root", str(root)])
    assert isinstance(again.exception, CorpusError)


def test_nothing_is_logged_as_a_warning(server, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        download.download(corpus_of(server, tar_of(GOOD)), tmp_path / "words")
    assert not caplog.records
