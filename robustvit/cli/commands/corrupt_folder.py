"""Corrupted copies of image files in a tree like that of ImageNet-C: TARGET/<corruption>/<severity>/<path of the image>.

Files are written whole or not at all, and existing ones are not written again: a stopped run continues where it stopped.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from robustvit.cli.commands.image_files import ENDINGS, Format, encoded_image, file_format
from robustvit.data.formats.decode import decode
from robustvit.data.formats.listing import EXTENSIONS, as_text, list_files
from robustvit.errors import BadParameter, DataMissing, DataUnreadable, RobustvitError, few
from robustvit.primitives.batch import Batch
from robustvit.primitives.draws import Draws
from robustvit.primitives.pixels import pixels
from robustvit.primitives.scenario import scenario, stream
from robustvit.records.disk import replace_file
from robustvit.records.sweeping import sweep_tree
from robustvit.spec import registry
from robustvit.spec.binding import bind
from robustvit.spec.coercion import check_seed
from robustvit.spec.given import check_path, check_whole, why_not_regular
from robustvit.spec.plugin import Entry
from robustvit.spec.spec import Spec
from robustvit.spec.suite_file import load_suite
from robustvit.spec.view import View
from robustvit.spec.written.call import called

Progress = Callable[[int, int, str], None]
IMAGENET = View((224, 224), 256, "center", "bilinear")  # the view of the released files
SEVERITIES = (1, 2, 3, 4, 5)
_NOTE = "generated.json"


class Made(NamedTuple):
    """The result of a run: files written, files that existed, and the images that could not be read, each with its reason."""

    written: int
    kept: int
    unreadable: list[str]


def generate(
    source: Path | str,
    target: Path | str,
    corruptions: Sequence[str] | None = None,
    severities: Sequence[int] | None = None,
    *,
    view: View | None = None,
    form: str = "png",
    seed: int = 0,
    workers: int = 0,
    progress: Progress | None = None,
) -> Made:
    """Writes the images of `source` under every corruption and severity into `target`.

    source: an image, a folder of images, or a tree of class folders; it is only read. corruptions: names, default the fifteen of
    ImageNet-C; `NAME?key=value` sets parameters, and one without severities 1 to 5 needs that. severities: default all five. view: how
    images are resized and cropped first, default not at all; `IMAGENET` is that of the released files. form: `png` is lossless, `jpeg`
    has quality 95, `jpeg85` is that of the released files. Random numbers are keyed by (seed, the image's path below source), so that
    the result does not depend on order or workers. workers: processes beside this one. progress: called with (images done, all, the
    last one's path). Raises UnknownName or BadParameter for a corruption or option that does not fit, DataMissing without images.
    """
    check_seed(seed)
    check_whole(workers, "--workers", 0, 256)
    source, target = check_path(source, "the source"), check_path(target, "the target")
    root, paths = _images(Path(source))
    job = _Job(root, Path(target), tuple(_variants(corruptions, severities)), view, file_format(form), seed)
    _refuse_overlap(job, Path(source))
    _refuse_twins(paths)
    sweep_tree(job.target, (variant.folder for variant in job.variants))
    _agree(job)
    wrote, kept, unreadable = 0, 0, []
    for done, one in enumerate(_each(partial(_make, job), paths, workers), 1):
        wrote, kept = wrote + one.written, kept + one.kept
        unreadable += one.unreadable
        if progress:
            progress(done, len(paths), as_text(paths[done - 1]))
    return Made(wrote, kept, unreadable)


@dataclass(frozen=True)
class _Variant:
    folder: str
    spec: Spec


@dataclass(frozen=True)
class _Job:
    source: Path
    target: Path
    variants: tuple[_Variant, ...]
    view: View | None
    form: Format
    seed: int

    def file(self, variant: _Variant, path: str) -> Path:
        """The file that the image at `path` is written to."""
        return (self.target / variant.folder / path).with_suffix(ENDINGS[self.form])


def _images(source: Path) -> tuple[Path, list[str]]:
    """The folder, and the paths of the images below it."""
    if not source.is_dir():
        if why := why_not_regular(source):
            raise DataMissing(f"{source} {why}; give an image, a folder of images, or a tree of class folders.")
        return source.parent, [source.name]
    found = list_files(source)
    if not found.files:
        raise DataMissing(f"{source} holds no images (left out: {found.ignored or 'nothing'}). Images end in {', '.join(EXTENSIONS)}.")
    return source, [file.path for file in found.files]


def _variants(corruptions: Sequence[str] | None, severities: Sequence[int] | None) -> Iterator[_Variant]:
    for text in dict.fromkeys(corruptions or [spec.name for spec in load_suite("imagenet-c").scenarios if spec.name != "clean"]):
        spec = called(text, "corruption")
        entry = registry.lookup("corruption", spec.name)
        graded = any(param.name == entry.severity and param.hint.choices == SEVERITIES for param in entry.params)
        if graded and spec.get(entry.severity) is not None:
            raise BadParameter(f"corruption '{text}': give its severity with --severity, so that it gets the folder of that name.")
        if graded:
            yield from (_variant(entry, spec, severity) for severity in dict.fromkeys(severities or SEVERITIES))
        elif severities is None and (spec.params or not entry.severity):
            yield _variant(entry, spec, None)
        elif spec.params or not entry.severity:
            raise BadParameter(f"corruption '{text}' has no severities 1 to 5, but --severity is given; give it in a command of its own.")
        else:
            raise BadParameter(
                f"corruption '{entry.name}' has no severities 1 to 5; its scale is '{entry.severity}'. "
                f"Write {entry.name}?{entry.severity}=VALUE."
            )


def _variant(entry: Entry, spec: Spec, severity: int | None) -> _Variant:
    params = ",".join(f"{key}={value}" for key, value in spec.params)
    folder = "/".join(part for part in (entry.name, params, "" if severity is None else str(severity)) if part)
    return _Variant(folder, bind(entry, spec if severity is None else spec.with_params(**{entry.severity: severity})))


def _refuse_overlap(job: _Job, source: Path) -> None:
    """Raises BadParameter where a folder to write lies in the source or holds it: files would be overwritten, or read by the next run."""
    read = source.resolve()
    for folder in (job.target.resolve() / variant.folder for variant in job.variants):
        inside = read.is_dir() and folder.is_relative_to(read)
        if inside or read.is_relative_to(folder):
            raise BadParameter(f"{folder} would be written and {source} is read: they overlap. Give another target.")


def _refuse_twins(paths: Sequence[str]) -> None:
    seen: dict[str, str] = {}
    for path in paths:
        other = seen.setdefault(str(Path(path).with_suffix("")), path)
        if other != path:
            raise BadParameter(f"{as_text(other)} and {as_text(path)} would be written to one file; rename one.")


def _agree(job: _Job) -> None:
    """Records the settings in the target. Raises BadParameter where its files were written with others."""
    note = job.target / _NOTE
    versions = {variant.spec.name: registry.lookup("corruption", variant.spec.name).version for variant in job.variants}
    made = {"seed": job.seed, "format": job.form, "view": job.view.as_dict() if job.view else None}
    made = json.loads(json.dumps(made))
    before = json.loads(note.read_text(encoding="utf-8")) if note.is_file() else {**made, "corruptions": {}}
    differing = [key for key in made if before[key] != made[key]]
    differing += [name for name, version in versions.items() if before["corruptions"].get(name, version) != version]
    if differing:
        raise BadParameter(f"{job.target} holds images written with another {few(differing)} (see {note}). Give another target.")
    content = {**made, "corruptions": {**before["corruptions"], **versions}}
    _write(note, (json.dumps(content, indent=1, sort_keys=True) + "\n").encode())


def _each(make: Callable[[str], Made], paths: Sequence[str], workers: int) -> Iterable[Made]:
    if workers < 1:
        yield from map(make, paths)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,)) as pool:
        yield from pool.map(make, paths, chunksize=max(1, min(16, len(paths) // (4 * workers))))


def _make(job: _Job, path: str) -> Made:
    """Writes the missing variants of one image."""
    missing = [variant for variant in job.variants if not job.file(variant, path).exists()]
    kept = len(job.variants) - len(missing)
    if not missing:
        return Made(0, kept, [])
    try:
        image = _opened(job, path)
    except DataUnreadable as error:
        return Made(0, kept, [str(error)])
    batch, failed = Batch(pixels(image[None]), torch.zeros(1, dtype=torch.int64), (as_text(path),)), []
    for variant in missing:
        try:
            made = encoded_image(_corrupted(variant.spec, batch, job.seed), job.form)
        except RobustvitError as error:  # an image that this corruption cannot process, such as a single pixel
            failed.append(f"{as_text(path)}: {variant.folder}: {error}")
        else:
            _write(job.file(variant, path), made)
    return Made(len(missing) - len(failed), kept, failed)


def _opened(job: _Job, path: str) -> np.ndarray:
    try:
        content = (job.source / path).read_bytes()
    except OSError as error:
        raise DataUnreadable(f"{as_text(path)}: {error.strerror}") from error
    image = decode(content, as_text(path))
    return image if job.view is None else np.asarray(job.view.apply(Image.fromarray(image), as_text(path)))


def _corrupted(spec: Spec, batch: Batch, seed: int) -> Tensor:
    corrupt = scenario(registry.lookup("corruption", spec.name), spec)
    images = corrupt(None, batch, Draws(seed, stream(spec), batch.ids)).images  # type: ignore[arg-type]
    assert images is not None
    return images


def _write(path: Path, content: bytes) -> None:
    """Writes the whole file or none."""
    try:
        replace_file(path, content)
    except OSError as error:
        raise RobustvitError(f"{path} cannot be written: {error.strerror}.") from error
