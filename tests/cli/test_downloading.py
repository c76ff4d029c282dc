"""`robustvit data --download` and `robustvit run --download` against a server on loopback."""

import hashlib
import io
import json
import tarfile
from dataclasses import replace

import pytest
from layouts import _encoded
from loopback import loopback

from robustvit.data.imagenette import _COUNTS, _IMAGENETTE
from robustvit.evaluation.downloads import http_file
from robustvit.spec import registry
from robustvit.spec.discovery import announced_entries

MODEL = "vit_tiny_patch16_224?weights=random&crop_pct=1&kwargs=img_size=32,patch_size=16,depth=1,embed_dim=24,num_heads=2"


@pytest.fixture(scope="module")
def imagenette():
    """imagenette2.tgz with two small images of each class."""
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w:gz") as tar:
        for number, wnid in enumerate(_IMAGENETTE):
            for split in ("train", "val"):
                for i in range(2):
                    image = _encoded(40 * number + 20 * i + (split == "val"), "JPEG", (48, 40))
                    info = tarfile.TarInfo(f"imagenette2/{split}/{wnid}/{wnid}_{i}.JPEG")
                    info.size = len(image)
                    tar.addfile(info, io.BytesIO(image))
    return sink.getvalue()


@pytest.fixture
def server(monkeypatch, tmp_path, imagenette):
    """Serves imagenette in place of its authors' address; the current folder is empty."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    for name in ("ROBUSTVIT_MIRROR", "ROBUSTVIT_DATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(http_file, "_WAITS", (0.0, 0.0))
    monkeypatch.setitem(_COUNTS, ("imagenette", "val"), 20)
    monkeypatch.chdir(tmp_path)
    with loopback() as running:
        url = running.serve("/imagenette2.tgz", imagenette)
        file = {"url": url, "size": len(imagenette), "md5": hashlib.md5(imagenette).hexdigest(), "source": "this test"}
        known = announced_entries()
        entry = replace(known["data", "imagenette"], downloads=(file,))
        monkeypatch.setattr(registry, "announced_entries", lambda: {**known, ("data", "imagenette"): entry})
        yield running


def test_a_set_is_fetched_with_its_licence_first_and_then_found(robustvit, server, tmp_path):
    assert "`robustvit data imagenette --download` fetches it" in robustvit("data", "imagenette").out
    done = robustvit("data", "imagenette", "--download")
    assert done.code == 0
    assert done.err.startswith("imagenette: Howard, Imagenette. Licence: Apache-2.0 (lists); images under the terms of ImageNet. Fetching")
    assert f"from 127.0.0.1:{server.base.rpartition(':')[2]} into {tmp_path}/data/imagenette." in done.err
    assert "imagenette: fetched. 20 images of 10 classes" in done.err
    again = robustvit("data", "imagenette", "--download")
    assert again.err.startswith("imagenette: there already, nothing is fetched. 20 images")
    assert len(server.requests) == 1
    assert json.loads(robustvit("data", "imagenette", "--download", "--json").out)["found"]


def test_a_run_fetches_its_data_and_evaluates_it(robustvit, server, tmp_path):
    options = ("run", "--model", MODEL, "--suite", "quick", "--data", "imagenette", "--store", tmp_path / "s", "--limit", 4)
    lacking = robustvit(*options)
    assert lacking.code == 1
    assert "`robustvit data imagenette --download` fetches them" in lacking.err
    done = robustvit(*options, "--download")
    assert done.code == 0, done.err
    assert "Licence: Apache-2.0" in done.err
    assert "rows computed" in done.out
    assert "Nothing to do" in robustvit(*options, "--download").out
    assert len(server.requests) == 1


def test_it_is_fetched_into_the_folder_of_all_data_or_the_place_in_the_address(robustvit, server, tmp_path, monkeypatch):
    assert robustvit("data", "imagenette", "--download", "--data-dir", tmp_path / "all").code == 0
    assert (tmp_path / "all/imagenette/imagenette2/val").is_dir()
    assert robustvit("data", f"imagenette:{tmp_path}/here", "--download").code == 0
    assert (tmp_path / "here/imagenette2/val").is_dir()
    monkeypatch.setenv("ROBUSTVIT_DATA", str(tmp_path / "usual"))
    assert robustvit("data", "imagenette", "--download").code == 0
    assert (tmp_path / "usual/imagenette/imagenette2/val").is_dir()
    assert len(server.requests) == 3


def test_what_cannot_be_fetched_is_one_line(robustvit, server):
    server.files.clear()
    assert "404 Not Found" in robustvit("data", "imagenette", "--download").err
    gated = robustvit("data", "objectnet", "--download")
    assert (gated.code, gated.out) == (1, "")
    assert "data 'objectnet' is not fetched by robustvit. Unpack objectnet-1.0.zip (its password is on the authors' page)" in gated.err
    assert robustvit("data", "--download").code == 2
    assert robustvit("data", "imagenette", "--download", "--clear-cache").code == 2
    assert robustvit("data", "imagenet-c?corruption=fgo", "--download").code == 2
    missing = robustvit("run", "--suite", "imagenet-shift", "--model", MODEL, "--download")
    assert missing.code == 1
    assert "data 'imagenet' is missing and not fetched by robustvit. Register at" in missing.err
    assert all(path == "/imagenette2.tgz" for path, _ in server.requests)


def test_an_interrupted_download_says_that_it_continues(robustvit, server, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("robustvit.evaluation.downloads.download.fetch_file", interrupted)
    done = robustvit("data", "imagenette", "--download")
    assert done.code == 130
    assert "What arrived is kept: the same command continues" in done.err


def test_a_terminal_gets_a_bar_and_a_file_none(robustvit, server, monkeypatch):
    from robustvit.cli import downloading

    assert "%" not in robustvit("data", "imagenette", "--download").err
    with downloading._bar(quiet=False) as silent:
        assert silent is None
    monkeypatch.setattr(downloading.err, "_force_terminal", True)
    monkeypatch.setattr(type(downloading.err), "is_terminal", property(lambda self: True))
    with downloading._bar(quiet=False) as update:
        update(1, 10, "fetching x.tar")
        update(10, 10, "fetching x.tar")
        update(1, 5, "unpacking x.tar")


def test_a_run_needs_only_the_files_of_its_corruptions(server, tmp_path):
    from robustvit.cli.commands.fetching import pending_of_run
    from robustvit.spec.suite_file import load_suite

    (tmp_path / "two.yaml").write_text(
        "name: two\ntitle: Two\ndata:\n  - imagenet-c: {corruption: [fog, snow, pixelate], severity: [1, 5]}\n"
        "scenarios: [clean]\nmetrics: [top1]\n"
    )
    (one,) = pending_of_run(load_suite(str(tmp_path / "two.yaml")), None, None)
    assert [file.file for file in one.lacking] == ["weather.tar", "digital.tar"]
    assert one.folder == tmp_path / "data/imagenet-c"
