import io
import tarfile
import zipfile

import pytest

from robustvit.errors import DataUnreadable
from robustvit.evaluation.downloads.unpacking import unpack

FILES = {"set/a/1.jpg": b"one", "set/b/2.jpg": b"two" * 1000}


def tar_of(path, members, mode="w"):
    """members: (name, bytes) for files, TarInfo for anything else."""
    with tarfile.open(path, mode) as tar:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
                continue
            info = tarfile.TarInfo(member[0])
            info.size = len(member[1])
            tar.addfile(info, io.BytesIO(member[1]))
    return path


def special(name, kind, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def zip_of(path, files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, body in files.items():
            packed.writestr(name, body)
    return path


def held(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("name", "mode"), [("x.tar", "w"), ("x.tar.gz", "w:gz"), ("x.tgz", "w:gz"), ("x.tar.bz2", "w:bz2"), ("x.tar.xz", "w:xz")]
)
def test_tars_are_unpacked(tmp_path, name, mode):
    unpack(tar_of(tmp_path / name, FILES.items(), mode), tmp_path / "out")
    assert held(tmp_path / "out") == FILES


def test_zips_are_unpacked_and_other_files_are_taken_as_they_are(tmp_path):
    unpack(zip_of(tmp_path / "x.zip", FILES), tmp_path / "out")
    (tmp_path / "x.npy").write_bytes(b"array")
    unpack(tmp_path / "x.npy", tmp_path / "out")
    assert held(tmp_path / "out") == {**FILES, "x.npy": b"array"}


@pytest.mark.parametrize("name", ["/etc/x", "../x", "set/../../x", "..\\x", "C:/x"])
@pytest.mark.parametrize("make", [lambda p, n: tar_of(p / "x.tar", [(n, b"")]), lambda p, n: zip_of(p / "x.zip", {n: b""})])
def test_names_that_lead_out_are_refused(tmp_path, name, make):
    with pytest.raises(DataUnreadable, match="leads out of the folder"):
        unpack(make(tmp_path, name), tmp_path / "in" / "out")
    assert not held(tmp_path / "in")


@pytest.mark.parametrize(
    ("member", "why"),
    [
        (special("set/l", tarfile.SYMTYPE, "/etc/passwd"), "is a link"),
        (special("set/l", tarfile.LNKTYPE, "set/a/1.jpg"), "is a link"),
        (special("set/p", tarfile.FIFOTYPE), "no regular file"),
        (special("set/d", tarfile.CHRTYPE), "no regular file"),
    ],
)
def test_links_and_devices_are_refused(tmp_path, member, why):
    with pytest.raises(DataUnreadable, match=why):
        unpack(tar_of(tmp_path / "x.tar", [("set/a/1.jpg", b"one"), member]), tmp_path / "out")


def test_a_link_in_a_zip_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as packed:
        info = zipfile.ZipInfo("link")
        info.external_attr = 0o120777 << 16
        packed.writestr(info, "/etc/passwd")
    with pytest.raises(DataUnreadable, match="is a link"):
        unpack(tmp_path / "x.zip", tmp_path / "out")


@pytest.mark.parametrize(("name", "mode"), [("x.tar", "w"), ("x.tar.gz", "w:gz"), ("x.tar.xz", "w:xz")])
def test_an_archive_that_is_cut_is_damaged(tmp_path, name, mode):
    whole = tar_of(tmp_path / name, [("a.bin", bytes(range(256)) * 400)], mode).read_bytes()
    (tmp_path / name).write_bytes(whole[: min(len(whole) // 2, 50_000)])
    with pytest.raises(DataUnreadable, match="is damaged"):
        unpack(tmp_path / name, tmp_path / "out")


def test_a_zip_with_a_flipped_bit_is_damaged(tmp_path):
    body = bytearray(zip_of(tmp_path / "x.zip", {"a": bytes(1000)}).read_bytes())
    body[33] ^= 255
    (tmp_path / "x.zip").write_bytes(body)
    with pytest.raises(DataUnreadable, match="is damaged"):
        unpack(tmp_path / "x.zip", tmp_path / "out")


def test_permissions_of_an_archive_are_not_taken(tmp_path):
    info = tarfile.TarInfo("x")
    info.mode = 0o4000
    unpack(tar_of(tmp_path / "x.tar", [info]), tmp_path / "out")
    assert (tmp_path / "out/x").stat().st_mode & 0o4000 == 0
