"""The options of run and plan, declared once and parsed into RunOptions."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from robustvit.cli.exit_codes import AllowCode, AsJson, JsonFile, StorePath, no_foreign_bars
from robustvit.cli.progress import quieted
from robustvit.errors import UsageError, nearest

if TYPE_CHECKING:
    from robustvit.evaluation.settings import Settings
    from robustvit.spec.spec import Spec


@dataclass(frozen=True)
class RunOptions:
    """The parsed options of run and plan."""

    models: list[str | Spec]
    suite: str
    data: str | None
    store: Path
    settings: Settings
    as_json: bool
    quiet: bool
    command: str
    allow_code: bool = False
    download: bool = False
    measure: bool = False
    log_to: str | None = None
    output: Path | None = None


def takes_run_options(function: Callable[[RunOptions], None]) -> Callable[..., None]:
    """A command with the arguments of _options that passes them on as RunOptions; run and plan so share them."""

    @functools.wraps(_options)
    def command(**given: Any) -> None:
        options = _options(**given)
        with quieted(options.quiet):
            function(options)

    command.__name__, command.__doc__ = function.__name__, function.__doc__
    return command


def _limit(text: str) -> int | float:
    """A count of samples, or a share of them where it is written as a fraction: `1` is one sample, `1.0` all.

    Raises UsageError for anything else.
    """
    try:
        return int(text) if text.strip().isdecimal() else float(text)
    except ValueError as error:
        raise UsageError(f"--limit is '{text}'; it takes a number of samples (200), or a share of them (0.1; 1.0 is all).") from error


def _rows(text: str) -> int | str:
    """Rows of a forward pass, or auto. Raises UsageError for anything else."""
    try:
        return text if text == "auto" else int(text)
    except ValueError as error:
        raise UsageError(f"--batch-size is '{text}'; it takes a number of rows, or auto.{nearest(text, ['auto'])}") from error


def _options(
    model: Annotated[list[str] | None, typer.Option("--model", "-m", help="vit_b16, any timm name, hf/ORG/NAME, "
        "file:PATH?arch=NAME, package.module:factory, demo; transforms follow behind a + in quotes, \"vit_b16+tome(r=8)\". Repeat for "
        "several. Default: demo.")] = None,
    checkpoint: Annotated[Path | None, typer.Option("--checkpoint", help="Weights for the one --model: safetensors, or a file "
        "that loads with weights only.")] = None,
    model_kwargs: Annotated[list[str] | None, typer.Option("--model-kwargs", help="k=v for the model's constructor; repeat for "
        "several.")] = None,
    num_classes: Annotated[int | None, typer.Option("--num-classes", help="Classes of the one --model, where its checkpoint "
        "differs.")] = None,
    suite: Annotated[str, typer.Option("--suite", "-s", help="A suite by name or file; kept:STORE evaluates the adversarial "
        "images kept there.")] = "quick",
    data: Annotated[str | None, typer.Option("--data", "-d", help="digits, imagenet, folder:PATH, npz:PATH, hfds/ORG/NAME; "
        "default: the suite's own.")] = None,
    data_dir: Annotated[Path | None, typer.Option("--data-dir", help="The folder of the data's files, or the folder that holds it "
        "under the data's name; the latter for a suite on several data sets.")] = None,
    download: Annotated[bool, typer.Option("--download", help="Fetch the data that is missing, where its authors let it be fetched: see "
        "robustvit data.")] = False,
    store: StorePath = Path("results"),
    limit: Annotated[Any, typer.Option("--limit", "-L", parser=_limit, metavar="NUMBER", help="Samples per cell: a number (200), or a "
        "share (0.1; 1.0 is all). A random sample; a larger one contains it, and its rows are reused.")] = None,
    batch_size: Annotated[Any, typer.Option("--batch-size", "-b", parser=_rows, metavar="NUMBER", help="Rows of a forward pass; auto: as "
        "many, and carried out so, as is fastest here. Default: a fixed number, so that results repeat to the bit. Halved where memory "
        "runs out.")] = None,
    workers: Annotated[int, typer.Option("--workers", "-j", help="Threads that decode images.")] = 0,
    device: Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1, …; cuda:0,1: a process for each; auto: a GPU "
        "where there is one.")] = "auto",
    precision: Annotated[str, typer.Option("--precision", help="float32, bfloat16 or float16; part of the cell.")] = "float32",
    seed: Annotated[int | None, typer.Option("--seed", help="Of all random numbers; default: the suite's own.")] = None,
    img_size: Annotated[int | None, typer.Option("--img-size", help="Side of the model's input; part of the cell.")] = None,
    crop_pct: Annotated[float | None, typer.Option("--crop-pct", help="Share of the resized image that the crop keeps; part "
        "of the cell.")] = None,
    interpolation: Annotated[str | None, typer.Option("--interpolation", help="bicubic, bilinear, …; part of the "
        "cell.")] = None,
    storage: Annotated[str | None, typer.Option("--storage", help="jpeg85: pass corrupted images through the JPEG of the "
        "released files; part of the cell.")] = None,
    budget: Annotated[str | None, typer.Option("--budget", help="90s, 10m, 2h: starts nothing new once it is spent; the same command "
        "continues from there.")] = None,
    keep: Annotated[list[str] | None, typer.Option("--keep", help="Also store logits, or adversarial: the images that attacks "
        "return. Repeat for both.")] = None,
    surrogate: Annotated[list[str] | None, typer.Option("--surrogate", help="A model on which a suite of transfer attacks crafts, in "
        "place of the suite's own; repeat for several. models: those of this run.")] = None,
    latency: Annotated[bool, typer.Option("--latency", help="Measure the seconds that an image takes each model here.")] = False,
    skip_missing: Annotated[bool, typer.Option("--skip-missing", help="Run on those data sets of the suite that are here, and say "
        "which are not.")] = False,
    executor: Annotated[str, typer.Option("--executor", help="Who computes: local; torchrun, which started this process; a ray cluster; "
        "slurm.")] = "local",
    processes: Annotated[int | None, typer.Option("--processes", help="Workers, each with the models in its memory; ray: as many as "
        "there is room for.")] = None,
    address: Annotated[str | None, typer.Option("--address", help="Of the Ray cluster: HOST:PORT, ray://HOST:PORT or auto. Default: that "
        "of RAY_ADDRESS, else one that is started here.")] = None,
    resources: Annotated[list[str] | None, typer.Option("--resources", help="k=v that one worker needs: num_gpus=1 of Ray, partition=gpu "
        "of Slurm; repeat for several.")] = None,
    measure: Annotated[bool, typer.Option("--measure", help="plan alone: time forward passes now, in place of MACs at the speed that runs "
        "here had.")] = False,
    log_to: Annotated[str | None, typer.Option("--log-to", help="jsonl, tensorboard, wandb or mlflow: log every number, a log for each "
        "model beside the store.")] = None,
    allow_code: AllowCode = False,
    as_json: AsJson = False,
    output: JsonFile = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", callback=no_foreign_bars, help="Print nothing but errors, what a spent --budget "
        "or --skip-missing left undone, the licence of what --download fetches, and what is asked for: --json, or the table of "
        "plan.")] = False,
) -> RunOptions:  # fmt: skip
    from robustvit.evaluation.loggers.log_kinds import check_log
    from robustvit.evaluation.settings import Settings
    from robustvit.spec.model_address import parse_model
    from robustvit.spec.suite_file import bind_storage
    from robustvit.spec.view import Overrides

    if log_to is not None:
        check_log(log_to)
    models = list(model or ["demo"])
    named: list[str | Spec] = list(models)
    one = checkpoint is not None or bool(model_kwargs) or num_classes is not None
    if one and len(models) != 1:
        raise UsageError(
            f"--checkpoint, --model-kwargs and --num-classes are for one --model; {len(models)} are given. Use file:PATH?arch=NAME."
        )
    if one:
        pairs = dict(_pair(text) for text in model_kwargs or [])
        if len(pairs) < len(model_kwargs or []):
            raise UsageError(f"--model-kwargs {' and '.join(model_kwargs or [])}: a key is given twice; give one value.")
        named = [parse_model(models[0], checkpoint=checkpoint, model_kwargs=pairs, num_classes=num_classes)]
    settings = Settings(
        device=device, batch_size=batch_size, workers=workers, precision=precision, limit=limit, seed=seed, keep=tuple(keep or ()),
        view=Overrides(img_size, crop_pct, interpolation), data_dir=data_dir,
        storage=None if storage is None else bind_storage(storage, "--storage"), budget=budget, latency=latency, skip_missing=skip_missing,
        surrogates=tuple(dict.fromkeys(surrogate or ())), executor=executor, processes=processes, address=address,
        resources=dict(_pair(text, "--resources", "num_gpus=1") for text in resources or []),
    )  # fmt: skip
    return RunOptions(named, suite, data, store, settings, as_json, quiet, _command_line(), allow_code, download, measure, log_to, output)


def _pair(text: str, option: str = "--model-kwargs", example: str = "patch_size=8") -> tuple[str, str]:
    key, sign, value = text.partition("=")
    if not sign or not key:
        raise UsageError(f"{option} '{text}': write key=value, for instance {example}.")
    return key, value


def _command_line() -> str:
    """The command as it was typed, without the options that change no number."""
    import shlex

    display_only = ("-q", "--quiet", "--json", "-v", "--verbose", "--download")
    words = sys.argv[1:]
    with_value = {"--budget", "--log-to", "--executor", "--processes", "--address", "--resources"}
    kept = [word for before, word in zip(["", *words], words, strict=False) if not {before, word.partition("=")[0]} & with_value]
    return " ".join(["robustvit", *(shlex.quote(word) for word in kept if word not in display_only)])
