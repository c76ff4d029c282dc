"""Hostile files: devices, pipes, loops of links, headers that lie, and contents that no reader should believe."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from hostile.calls import BIG
from PIL import Image

TINY = "vit_tiny_patch16_224"
KWARGS = "depth=1,embed_dim=24,img_size=32,num_heads=2,patch_size=8"
FACTORIES = """
import sys
import torch
from torch import nn


class Net(nn.Module):
    pretrained_cfg = {"input_size": (3, 32, 32), "mean": (0.5,) * 3, "std": (0.5,) * 3}

    def __init__(self, result=lambda x: x.flatten(1)[:, :10], dtype=None):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3, dtype=dtype or torch.float32), requires_grad=False)
        self.result = result

    def forward(self, x):
        return self.result(x)


def with_config(**config):
    made = Net()
    made.pretrained_cfg = {**Net.pretrained_cfg, **config}
    return made


def good(): return Net()
def raises(): raise ValueError("no")
def exits(): sys.exit(5)
def interrupts(): raise SystemExit
def integers(): return Net(dtype=torch.int32)
def complex_weights(): return Net(dtype=torch.complex64)
def on_meta(): return Net().to("meta")
def not_a_module(): return 5
def needs_arguments(x): return Net()
def no_view(): return nn.Linear(3, 3)
def huge_view(): return with_config(input_size=(3, 1000000, 1000000))
def zero_std(): return with_config(std=(0.0,) * 3)
def scalar_outputs(): return Net(lambda x: x.mean())
def tuple_outputs(): return Net(lambda x: (x, x))
def wrong_rows(): return Net(lambda x: x.flatten(1)[:1, :10])
def integer_outputs(): return Net(lambda x: x.flatten(1)[:, :10].long())
def recursion(): return recursion()
def nan_weights():
    made = Net()
    made.weight.data[0] = float("nan")
    return made
"""


def write(root: Path) -> Path:
    """Writes them all into a folder, and returns that."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "zero").symlink_to("/dev/zero")
    os.mkfifo(root / "fifo")
    (root / "folder").mkdir()
    (root / "binary").write_bytes(bytes(range(256)) * 40)
    (root / "empty").write_bytes(b"")
    (root / "loop").symlink_to("loop")
    (root / "hostile_models.py").write_text(FACTORIES)
    (root / "hostile_broken.py").write_text("def model(:\n")
    (root / "hostile_exits.py").write_text("import sys\nsys.exit(5)\n")
    (root / "tiny.yaml").write_text("name: tiny\ntitle: t\ndata: digits\nscenarios: [clean]\nmetrics: [top1]\n")
    for write_some in (_checkpoints, _arrays, _images, _references, _entries, _tars, _folders):
        write_some(root)
    return root


def _safetensors(header: bytes, rest: bytes = b"", length: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if length is None else length) + header + rest


def _described(**about: Any) -> bytes:
    """A checkpoint of one small tensor whose header tells of a model."""
    return safetensors.torch.save({"x": torch.zeros(2)}, metadata={"robustvit": json.dumps({"arch": TINY, "kwargs": KWARGS, **about})})


def _checkpoints(root: Path) -> None:
    tensor = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    raw = {
        "lies": _safetensors(json.dumps({"x": {**tensor, "shape": [10**12], "data_offsets": [0, 4 * 10**12]}}).encode(), b"\0" * 8),
        "huge-header": _safetensors(b"{}", length=2**62),
        "short": _safetensors(b'{"x"', length=4000),
        "empty": b"",
        "not-json": _safetensors(b"not json"),
        "overlap": _safetensors(json.dumps({"x": tensor, "y": tensor}).encode(), b"\0" * 8),
        "negative": _safetensors(json.dumps({"x": {**tensor, "shape": [-2]}}).encode(), b"\0" * 8),
        "many-classes": _described(num_classes=10**9),
        "deep": _described(kwargs="depth=1000000"),
        "no-view": _described(view={}),
        "view-huge": _described(view={"size": [10**6, 10**6], "resize": None, "crop": "center", "interpolation": "bicubic"}),
        "view-text": _described(view="32"),
        "kwargs-number": _described(kwargs=5),
        "arch-code": _described(arch="os:system"),
        "std-zero": _described(std=[0, 0, 0]),
        "std-text": _described(std=["a", "b", "c"]),
        "integers": safetensors.torch.save({name: one.to(torch.int32) for name, one in _state().items()}, metadata={"robustvit": _tiny()}),
        **{
            f"about-{name}": safetensors.torch.save({"x": torch.zeros(2)}, metadata={"robustvit": text})
            for name, text in {"list": "[1]", "text": "no JSON", "deep": "[" * 100_000, "number": BIG}.items()
        },
    }
    for name, content in raw.items():
        (root / f"{name}.safetensors").write_bytes(content)
    cycle: dict[str, Any] = {}
    cycle["state_dict"] = cycle
    state = _state()
    saved = {
        "complex": {name: one.to(torch.complex64) for name, one in state.items()},
        "scalars": {"a": 1, "b": 2.0},
        "list": [1, 2],
        "nan": {name: one * float("nan") for name, one in state.items()},
        "meta": {name: one.to("meta") for name, one in state.items()},
        "cycle": cycle,
        "strange-keys": {**state, 5: torch.zeros(2), None: torch.zeros(2)},
    }
    for name, value in saved.items():
        torch.save(value, root / f"{name}.pth")
    (root / "good.pth").write_bytes(_bytes_of(lambda sink: torch.save(state, sink)))
    (root / "code.pth").write_bytes(pickle.dumps(_Code()))
    for name, content in {"empty": b"", "binary": bytes(range(256)) * 9, "text": b"hello", "page": b"<html>login</html>"}.items():
        (root / f"{name}.pth").write_bytes(content)
    (root / "zip.pth").write_bytes(_zip({"archive/data.pkl": b"\x80\x02", "archive/version": b"3"}))
    (root / "bomb.pth").write_bytes(_zip({"archive/data.pkl": b"\x80\x02" + b"]" * 20_000_000, "archive/version": b"3\n"}))


class _Code:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.getpid, ()


def _state() -> dict[str, torch.Tensor]:
    from robustvit.models.timm import random

    return dict(random(TINY, 10, KWARGS).state_dict())


def _tiny() -> str:
    return json.dumps({"arch": TINY, "kwargs": KWARGS, "num_classes": 10})


def _bytes_of(write_to: Callable[[io.BytesIO], object]) -> bytes:
    sink = io.BytesIO()
    write_to(sink)
    return sink.getvalue()


def _zip(members: dict[str, bytes]) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return sink.getvalue()


def _npy(header: str, rest: bytes = b"") -> bytes:
    text = header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + rest


def _arrays(root: Path) -> None:
    images, labels = np.zeros((4, 8, 8, 3), np.uint8), np.arange(4)
    good = {"images": images, "labels": labels}
    arrays: dict[str, dict[str, Any]] = {
        "good": good,
        "labels-big": {**good, "labels": np.array([0, 1, 2, 2**40])},
        "labels-negative": {**good, "labels": labels - 9},
        "labels-float": {**good, "labels": labels / 2},
        "labels-short": {**good, "labels": labels[:2]},
        "labels-bool": {**good, "labels": labels > 1},
        "labels-uint64": {**good, "labels": np.array([0, 1, 2, 2**64 - 1], np.uint64)},
        "no-labels": {"images": images},
        "nothing": {},
        "images-float": {**good, "images": images / 1.0},
        "images-int64": {**good, "images": images.astype(np.int64)},
        "no-images": {"labels": labels},
        "images-empty": {"images": images[:0], "labels": labels[:0]},
        "images-flat": {**good, "images": images[:, 0, 0]},
        "images-five": {**good, "images": images[..., None]},
        "four-channels": {**good, "images": np.zeros((4, 8, 8, 4), np.uint8)},
        "ids-same": {**good, "ids": np.array(["a"] * 4)},
        "ids-numbers": {**good, "ids": labels},
        "classes-short": {**good, "classes": np.array(["a"])},
        "classes-bytes": {**good, "classes": np.array([b"a"] * 4)},
        "ids-short": {**good, "ids": np.array(["a"])},
        "objects": {**good, "images": np.array([{"a": 1}] * 4, dtype=object)},
        "scalar": {**good, "labels": np.array(3)},
        "structured": {**good, "labels": np.zeros(4, [("a", int)])},
        "dates": {**good, "labels": np.zeros(4, "M8[s]")},
        "ids-control": {**good, "ids": np.array(["a\0b", "\x1b[31m", "../../x", "\n"])},
    }
    for name, content in arrays.items():
        np.savez_compressed(root / f"{name}.npz", **content)
    whole = (root / "good.npz").read_bytes()
    huge = _npy("{'descr': '|u1', 'fortran_order': False, 'shape': (1000000, 1000, 1000, 3), }", b"\0" * 100)
    zeros = _npy("{'descr': '|u1', 'fortran_order': False, 'shape': (400000, 64, 64, 3), }", bytes(20_000_000) * 5)
    label = _bytes_of(lambda sink: np.save(sink, labels))
    raw = {
        "short": whole[: len(whole) // 2],
        "one": _bytes_of(lambda sink: np.save(sink, images)),
        "text": b"hello",
        "lies": _zip({"images.npy": huge, "labels.npy": label}),
        "bomb": _zip({"images.npy": zeros, "labels.npy": label}),
        "no-header": _zip({"images.npy": b"\x93NUMPY\x01\x00\xff\xff", "labels.npy": label}),
        "code": _zip({"images.npy": _npy("__import__('os').getpid()"), "labels.npy": label}),
        "nested": _zip({"images.npy": _npy("(" * 3000), "labels.npy": label}),
        "negative": _zip({"images.npy": _npy("{'descr': '|u1', 'fortran_order': False, 'shape': (-4, 8, 8, 3), }"), "labels.npy": label}),
        "shape-big": _zip(
            {"images.npy": _npy(f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({BIG}, 8, 8, 3), }}"), "labels.npy": label}
        ),
        "shape-2p70": _zip(
            {"images.npy": _npy(f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({2**70}, 8, 8, 3), }}"), "labels.npy": label}
        ),
        "descr": _zip({"images.npy": _npy("{'descr': 'absurd', 'fortran_order': False, 'shape': (4, 8, 8, 3), }"), "labels.npy": label}),
    }
    for name, content in raw.items():
        (root / f"{name}.npz").write_bytes(content)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _png(width: int, height: int, more: bytes = b"", data: bytes | None = None) -> bytes:
    head = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    body = zlib.compress(b"\0" * 100) if data is None else data
    return b"\x89PNG\r\n\x1a\n" + head + more + _chunk(b"IDAT", body) + _chunk(b"IEND", b"")


def encoded(form: str, mode: str = "RGB", size: tuple[int, int] = (8, 8)) -> bytes:
    """A small image in a format of Pillow."""
    return _bytes_of(lambda sink: Image.new(mode, size).save(sink, form))


def _images(root: Path) -> None:
    png, bmp = encoded("PNG"), bytearray(encoded("BMP"))
    bmp[18:22] = struct.pack("<i", -(2**31))
    text = _chunk(b"zTXt", b"a\0\0" + zlib.compress(b"\0" * 20_000_000))
    raw = {
        "bomb.png": _png(60_000, 60_000),
        "lies.png": _png(8000, 8000),
        "short.png": png[: len(png) // 2],
        "text.png": b"hello",
        "sixteen.png": encoded("PNG", "I;16"),
        "zero-size.png": _png(0, 0),
        "short.jpg": encoded("JPEG")[:300],
        "negative.bmp": bytes(bmp),
        "huge.ppm": b"P6 999999999 999999999 255\n",
        "float.tif": encoded("TIFF", "F"),
        "empty.gif": b"GIF89a",
        "text-bomb.png": _png(8, 8, text),
        "code.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n(x) run\n",
        "pcx.png": encoded("PCX"),
        "psd.png": b"8BPS" + struct.pack(">H6xHIIHH", 1, 3, 8, 8, 8, 3) + b"\0" * 300,
        "fits.png": b"SIMPLE  =                    T" + b" " * 2850,
        "good.png": png,
    }
    for name, content in raw.items():
        (root / name).write_bytes(content)


HEAD = "model,base,scenario,metric,value,source\n"


def _references(root: Path) -> None:
    row = "a,imagenet,clean,top1,{},b\n"
    raw = {
        "value-nan": HEAD + row.format("nan"),
        "value-text": HEAD + row.format("abc"),
        "value-huge": HEAD + row.format("1e999"),
        "column-twice": "model,model,base,metric,value,source\n",
        "column-unknown": "model,base,metric,value,source,absurd\n",
        "short-row": HEAD + "a,b\n",
        "nul": HEAD + "a\0,imagenet,clean,top1,\0,b\n",
        "quote": HEAD + 'a,"imagenet\n',
        "big-number": HEAD + row.format(BIG),
        "big-field": HEAD + row.format("1" * 200_000),
        "bom": "\ufeffabsurd\n",
        "n-big": HEAD.strip() + ",n\na,imagenet,clean,top1,0.5,b," + BIG + "\n",
        "n-negative": HEAD.strip() + ",n\na,imagenet,clean,top1,0.5,b,-5\n",
    }
    for name, content in raw.items():
        (root / f"{name}.csv").write_text(content, "utf-8")
    (root / "latin.csv").write_bytes(HEAD.encode() + b"a\xe9,imagenet,clean,top1,0.5,b\n")


def _entries(root: Path) -> None:
    """Folders that are entries for a board by the names of their files alone."""
    typed = {"format": 1, "model": 5, "suite": [], "files": "x", "told": {"gradients": 1}, "board": "", "headlines": {}, "robustvit": None}
    texts = {
        "empty": "{}",
        "list": "[]",
        "deep": "[" * 100_000,
        "types": json.dumps(typed),
        "format": '{"format": 1e400}',
        "text": "not JSON",
    }
    for name, text in texts.items():
        (root / f"entry-{name}").mkdir()
        (root / f"entry-{name}" / "entry.json").write_text(text)
        (root / f"entry-{name}" / "board.csv").write_text("model,suite\na,\0\n")


def _tar(members: dict[str, bytes], **about: Any) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as tar:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            for key, value in about.items():
                setattr(entry, key, value)
            tar.addfile(entry, io.BytesIO(content))
    return sink.getvalue()


def _tars(root: Path) -> None:
    png = encoded("PNG")
    for name, label in {
        "big": str(2**40),
        "digits": BIG,
        "negative": "-1",
        "float": "0.5",
        "text": "cat",
        "nan": "nan",
        "empty": "",
    }.items():
        (root / f"wds-{name}").mkdir()
        (root / f"wds-{name}" / "a.tar").write_bytes(_tar({"a.png": png, "a.cls": label.encode(), "b.png": png, "b.cls": b"0"}))
    for name, text in {
        "json-deep": "[" * 100_000,
        "json-big": BIG,
        "json-list": "[1]",
        "json-nan": '{"label": NaN}',
        "json-big-label": f'{{"label": {2**40}}}',
    }.items():
        (root / f"wds-{name}").mkdir()
        (root / f"wds-{name}" / "a.tar").write_bytes(_tar({"a.png": png, "a.json": text.encode()}))
    whole = bytearray(_tar({"a.png": png, "a.cls": b"0"}))
    whole[124:136] = b"77777777777\0"
    for name, content in {"tar-size": bytes(whole), "tar-short": bytes(whole[:700]), "tar-text": b"hello" * 500}.items():
        (root / f"wds-{name}").mkdir()
        (root / f"wds-{name}" / "a.tar").write_bytes(content)


def _folders(root: Path) -> None:
    """Class folders with what should not be in them."""
    for name in ("fifo", "zero", "loop", "bad-image"):
        for place in (f"classes-{name}/cat", f"classes-{name}/dog"):
            (root / place).mkdir(parents=True)
            (root / place / "a.png").write_bytes(encoded("PNG"))
    os.mkfifo(root / "classes-fifo/cat/b.png")
    (root / "classes-zero/cat/b.png").symlink_to("/dev/zero")
    (root / "classes-loop/cat/b.png").symlink_to("b.png")
    for name in ("bomb.png", "lies.png", "short.png", "code.eps"):
        (root / "classes-bad-image/cat" / name).with_suffix(".png").write_bytes((root / name).read_bytes())
