"""What writes something new: new, corrupt and train."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from robustvit.cli.exit_codes import INTERRUPTED
from robustvit.cli.printing import err, out
from robustvit.cli.progress import showing
from robustvit.errors import RobustvitError, UsageError

_DEMO = "vit_tiny_patch16_224?weights=random&num_classes=10&crop_pct=1&kwargs=img_size=32,patch_size=8,embed_dim=96,depth=4,num_heads=3"


def new(
    kind: Annotated[
        str, typer.Argument(help="model, data, corruption, attack, certificate, analysis, transform, defense, metric or suite.")
    ],
    name: Annotated[str, typer.Argument(help="What to call it: letters, digits, underscores.")],
    folder: Annotated[Path, typer.Option("--folder", help="Where to write it.")] = Path(),
) -> None:
    """Write a working plug-in with the test of its contract, or a suite.

    In a checkout, --folder robustvit/attacks puts an attack where it is found by name, and its test into tests/attacks.

    Example: robustvit new attack blur_attack
    """
    from robustvit.cli.commands import scaffold

    made = scaffold.write(kind, name, folder)
    for path in made.files:
        out.print(f"Wrote {path}", highlight=False, soft_wrap=True)
    out.print(made.next_step, highlight=False, soft_wrap=True)


def corrupt(
    source: Annotated[Path, typer.Argument(help="An image, a folder of images, or a tree of class folders.")],
    target: Annotated[Path, typer.Argument(help="Where to write CORRUPTION/SEVERITY/…; what is finished there is kept.")],
    corruption: Annotated[list[str] | None, typer.Option("--corruption", "-c", help="NAME or NAME?key=value; repeat for several. Default: the fifteen of ImageNet-C.")] = None,
    severity: Annotated[list[int] | None, typer.Option("--severity", help="1 to 5; repeat for several. Default: all five.")] = None,
    resize: Annotated[int | None, typer.Option("--resize", help="Short side before the crop; needs --size. Default: as it is.")] = None,
    size: Annotated[int | None, typer.Option("--size", help="Side of the square cut from the middle. Default: pictures as they are.")] = None,
    imagenet: Annotated[bool, typer.Option("--imagenet", help="As the released files: --resize 256 --size 224, bilinear.")] = False,
    form: Annotated[str, typer.Option("--format", help="png, jpeg (quality 95) or jpeg85 (as the released files).")] = "png",
    seed: Annotated[int, typer.Option("--seed", help="Of every draw.")] = 0,
    workers: Annotated[int, typer.Option("--workers", "-j", help="Processes that make pictures; 0 makes them in this one.")] = 0,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:  # fmt: skip
    """Write corrupted copies of images, one or a whole tree like that of ImageNet-C. Stopped, it goes on where it was.

    Example: robustvit corrupt photos corrupted --corruption fog --severity 3
    """
    from robustvit.cli.commands.corrupt_folder import IMAGENET, generate
    from robustvit.spec.view import View

    if (imagenet and (size or resize)) or (resize and not size):
        raise UsageError("--resize needs --size, and --imagenet is both: give --imagenet, or --size with or without --resize.")
    view = IMAGENET if imagenet else View((size, size), resize, "center", "bilinear") if size is not None else None
    with showing(quiet) as progress:
        made = generate(
            source, target, corruption, severity, view=view, form=form, seed=seed, workers=workers, progress=progress
        )  # fmt: skip
    out.print(
        f"Wrote {made.written:,} picture{'' if made.written == 1 else 's'} to {target}; {made.kept:,} were there.",
        highlight=False,
        soft_wrap=True,
    )
    for reason in made.unreadable:
        err.print(f"[red]unreadable:[/] {escape(reason)}", highlight=False, soft_wrap=True)
    if made.unreadable:
        raise typer.Exit(RobustvitError.exit_code)


def train(
    out_file: Annotated[Path, typer.Option("--out", "-o", help="The checkpoint to write, NAME.safetensors.")],
    model: Annotated[str, typer.Option("--model", "-m", help="An address with fresh weights, or a checkpoint to go on from.")] = _DEMO,
    data: Annotated[str, typer.Option("--data", "-d", help="Its training split is learned, its usual split judged.")] = "digits",
    data_dir: Annotated[Path | None, typer.Option("--data-dir", help="Where the data's files are.")] = None,
    defense: Annotated[list[str] | None, typer.Option("--defense", help="NAME or NAME?key=value; repeat to combine. Default: plain.")] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", help="Times over the training split.")] = None,
    batch_size: Annotated[int | None, typer.Option("--batch-size", "-b", help="Samples a step.")] = None,
    lr: Annotated[float | None, typer.Option("--lr", help="The highest learning rate.")] = None,
    weight_decay: Annotated[float | None, typer.Option("--weight-decay")] = None,
    warmup: Annotated[float | None, typer.Option("--warmup", help="Share of the steps in which the rate rises.")] = None,
    rotation: Annotated[float | None, typer.Option("--rotation", help="The most a picture is turned, in degrees.")] = None,
    scale: Annotated[float | None, typer.Option("--scale", help="The most a picture is resized, as a share.")] = None,
    shift: Annotated[float | None, typer.Option("--shift", help="The most a picture is moved, as a share of its side.")] = None,
    seed: Annotated[int, typer.Option("--seed")] = 0,
    device: Annotated[str, typer.Option("--device")] = "cpu",
    stored: Annotated[str, typer.Option("--stored", help="Type of the weights in the file: float16 or float32.")] = "float16",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:  # fmt: skip
    """Train a model, with or without a defense.

    The loop that made the demo's weights.

    Example: robustvit train --data digits --defense plain --epochs 40 --out mine.safetensors
    """
    from dataclasses import replace

    from robustvit.evaluation import environment
    from robustvit.training.recipe import RECIPE
    from robustvit.training.run import train_from_spec

    given: dict[str, Any] = {
        "epochs": epochs, "batch_size": batch_size, "lr": lr, "weight_decay": weight_decay, "warmup": warmup, "rotation": rotation,
        "scale": scale, "shift": shift,
    }  # fmt: skip
    recipe = replace(RECIPE, **{name: value for name, value in given.items() if value is not None})
    if stored not in ("float16", "float32"):
        raise UsageError(f"--stored is {stored}; it takes float16 or float32.")
    environment.determine()

    def tell(now: Any) -> None:
        if not quiet:
            err.print(f"epoch {now.epoch}/{now.epochs}  loss {now.loss:.4f}  {now.seconds:.0f} s", highlight=False)

    try:
        done = train_from_spec(
            model, data, out=out_file, defenses=tuple(defense or ["plain"]), recipe=recipe, seed=seed,
            device=environment.device(device), stored="float16" if stored == "float16" else "float32", data_dir=data_dir, progress=tell,
        )  # fmt: skip
    except KeyboardInterrupt as interrupted:
        err.print(f"\nInterrupted. {interrupted}", highlight=False, soft_wrap=True)
        raise typer.Exit(INTERRUPTED) from None
    told = "" if done.accuracy is None else f" Accuracy on the held-out split: {done.accuracy:.2%}."
    out.print(f"Wrote {out_file} after {done.seconds:.0f} s.{told}", highlight=False, soft_wrap=True)
