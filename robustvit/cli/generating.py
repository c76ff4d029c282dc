"""The commands that write files: new, corrupt and train."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from robustvit.cli.exit_codes import INTERRUPTED, Quiet
from robustvit.cli.printing import err, escape, out
from robustvit.cli.progress import progress_shown, quieted
from robustvit.errors import RobustvitError, UsageError

_DEMO = "vit_tiny_patch16_224?weights=random&num_classes=10&crop_pct=1&kwargs=img_size=32,patch_size=8,embed_dim=96,depth=4,num_heads=3"


def new(
    kind: Annotated[
        str, typer.Argument(help="model, data, corruption, attack, certificate, analysis, transform, defense, metric or suite.")
    ],
    name: Annotated[str, typer.Argument(help="Its name: lower-case letters, digits, underscores.")],
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
    target: Annotated[Path, typer.Argument(help="Where to write CORRUPTION/SEVERITY/…; finished files there are kept.")],
    corruption: Annotated[list[str] | None, typer.Option("--corruption", "-c", help="NAME or NAME?key=value; repeat for several. "
        "Default: the fifteen of ImageNet-C.")] = None,
    severity: Annotated[list[int] | None, typer.Option("--severity", help="1 to 5; repeat for several. Default: all five.")] = None,
    resize: Annotated[int | None, typer.Option("--resize", help="Short side before the crop; needs --size. Default: not resized.")] = None,
    size: Annotated[int | None, typer.Option("--size", help="Side of the square cut from the middle. Default: not cropped.")] = None,
    imagenet: Annotated[bool, typer.Option("--imagenet", help="As the released files: --resize 256 --size 224, bilinear.")] = False,
    form: Annotated[str, typer.Option("--format", help="png, jpeg (quality 95) or jpeg85 (as the released files).")] = "png",
    seed: Annotated[int, typer.Option("--seed", help="Of all random numbers.")] = 0,
    workers: Annotated[int, typer.Option("--workers", "-j", help="Processes that write images; 0 uses this one.")] = 0,
    quiet: Quiet = False,
) -> None:  # fmt: skip
    """Write corrupted copies of one image, or of a whole tree as ImageNet-C has. A stopped command continues where it was.

    Example: robustvit corrupt photos corrupted --corruption fog --severity 3
    """
    from robustvit.cli.commands.corrupt_folder import IMAGENET, generate
    from robustvit.spec.view import View

    if (imagenet and (size or resize)) or (resize and not size):
        raise UsageError("--resize needs --size, and --imagenet sets both: give --imagenet, or --size with or without --resize.")
    if resize and size and resize < size:
        raise UsageError(f"--resize {resize} makes the short side shorter than the square of --size {size} that is cut from it.")
    view = IMAGENET if imagenet else View((size, size), resize, "center", "bilinear") if size is not None else None
    with quieted(quiet), progress_shown(quiet) as progress:
        made = generate(
            source, target, corruption, severity, view=view, form=form, seed=seed, workers=workers, progress=progress
        )  # fmt: skip
    if not quiet:
        wrote = f"Wrote {made.written:,} image{'' if made.written == 1 else 's'} to {target}; {made.kept:,} existed."
        out.print(wrote, highlight=False, soft_wrap=True)
    for reason in made.unreadable:
        err.print(f"[red]unreadable:[/] {escape(reason)}", highlight=False, soft_wrap=True)
    if made.unreadable:
        raise typer.Exit(RobustvitError.exit_code)


def train(
    out_file: Annotated[Path, typer.Option("--out", "-o", help="The checkpoint to write, NAME.safetensors.")],
    model: Annotated[str | None, typer.Option("--model", "-m", help="An architecture with random weights. Default: a small ViT.")] = None,
    start: Annotated[str | None, typer.Option("--from", help="A model to start from, in place of --model: any address.")] = None,
    tuning: Annotated[str | None, typer.Option("--tuning", help="What is trained of it: full (default), linear, lora(rank=8), adapter, "
        "side.")] = None,
    new_head: Annotated[bool, typer.Option("--new-head", help="Give it a new head, for the data's classes.")] = False,
    data: Annotated[str, typer.Option("--data", "-d", help="Trained on its training split, evaluated on its usual split.")] = "digits",
    data_dir: Annotated[Path | None, typer.Option("--data-dir", help="Where the data's files are.")] = None,
    defense: Annotated[list[str] | None, typer.Option("--defense", help="NAME or NAME(key=value); repeat to combine. "
        "Default: plain.")] = None,
    distill: Annotated[str | None, typer.Option("--distill", help="A model to learn from: --defense distillation(teacher=…).")] = None,
    logits: Annotated[Path | None, typer.Option("--logits", help="A file that keeps what it predicts (top 10).")] = None,
    preset_: Annotated[str | None, typer.Option("--preset", help="A published recipe; options given beside it come first.")] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", help="Passes over the training split.")] = None,
    batch_size: Annotated[int | None, typer.Option("--batch-size", "-b", help="Samples per step.")] = None,
    lr: Annotated[float | None, typer.Option("--lr", help="Peak learning rate.")] = None,
    weight_decay: Annotated[float | None, typer.Option("--weight-decay")] = None,
    warmup: Annotated[float | None, typer.Option("--warmup", help="Share of the steps in which the learning rate rises.")] = None,
    rotation: Annotated[float | None, typer.Option("--rotation", help="Largest random rotation, in degrees.")] = None,
    scale: Annotated[float | None, typer.Option("--scale", help="Largest random change of scale, as a share.")] = None,
    shift: Annotated[float | None, typer.Option("--shift", help="Largest random shift, as a share of the side.")] = None,
    layer_decay: Annotated[float | None, typer.Option("--layer-decay", help="Rate of a layer relative to the next one's.")] = None,
    clip: Annotated[float | None, typer.Option("--clip", help="Largest l2 norm of the gradient.")] = None,
    accumulate: Annotated[int | None, typer.Option("--accumulate", help="Parts in which a step's batch is computed.")] = None,
    precision: Annotated[str | None, typer.Option("--precision", help="float32, bfloat16 or float16.")] = None,
    ema: Annotated[float | None, typer.Option("--ema", help="Keep a running mean of the weights, with this share of the last.")] = None,
    optimizer: Annotated[str | None, typer.Option("--optimizer", help="adamw or sgd.")] = None,
    schedule: Annotated[str | None, typer.Option("--schedule", help="cosine, or steps: a tenth at 7/8, a hundredth at 19/20.")] = None,
    final: Annotated[float | None, typer.Option("--final", help="Last learning rate of the cosine, as a share of the peak.")] = None,
    eval_suite: Annotated[str | None, typer.Option("--eval-suite", help="A suite to run on the model while it trains.")] = None,
    eval_data: Annotated[str | None, typer.Option("--eval-data", help="What it is run on. Default: part=calibration of what is held out.")]
        = None,
    eval_limit: Annotated[int, typer.Option("--eval-limit", help="Images of it.")] = 512,
    every: Annotated[int, typer.Option("--every", help="Epochs between runs of that suite.")] = 1,
    keep_best: Annotated[bool, typer.Option("--keep-best", help="Keep the weights of the epoch that is most robust there.")] = False,
    seed: Annotated[int, typer.Option("--seed")] = 0,
    device: Annotated[str, typer.Option("--device")] = "cpu",
    stored: Annotated[str | None, typer.Option("--stored", help="Type of the weights in the file: float16 (default) or float32 (default "
        "where float16 would round frozen weights).")] = None,
    log_to: Annotated[str | None, typer.Option("--log-to", help="jsonl, tensorboard, wandb or mlflow: the loss of every step, "
        "beside the file.")] = None,
    quiet: Quiet = False,
) -> None:  # fmt: skip
    """Train a model, with or without a defense.

    Killed or interrupted, the same command goes on from the last epoch, or the last five minutes, to the same bytes. The demo was trained
    by this loop.

    Example: robustvit train --data digits --defense plain --epochs 40 --out mine.safetensors
    """
    from dataclasses import replace

    from robustvit.evaluation import environment
    from robustvit.evaluation.loggers.log_kinds import check_log
    from robustvit.training.defending import learning_from, tuned_by
    from robustvit.training.monitor import Monitor, calibration_part
    from robustvit.training.presets import preset
    from robustvit.training.processes import is_first, local_device
    from robustvit.training.recipe import RECIPE
    from robustvit.training.run import train_from_spec

    given: dict[str, Any] = {
        "epochs": epochs, "batch_size": batch_size, "lr": lr, "weight_decay": weight_decay, "warmup": warmup, "rotation": rotation,
        "scale": scale, "shift": shift, "layer_decay": layer_decay, "clip": clip, "accumulate": accumulate, "precision": precision,
        "ema": ema, "optimizer": optimizer, "schedule": schedule, "final": final,
    }  # fmt: skip
    chosen = None if preset_ is None else preset(preset_)
    recipe = replace(RECIPE if chosen is None else chosen.recipe, **{name: value for name, value in given.items() if value is not None})
    if stored not in (None, "float16", "float32"):
        raise UsageError(f"--stored is {stored}; it takes float16 or float32.")
    environment.determine()

    if eval_suite is None and (eval_data is not None or keep_best or (eval_limit, every) != (512, 1)):
        raise UsageError("--eval-data, --eval-limit, --every and --keep-best are about the suite that watches training; give --eval-suite.")
    watched = eval_data if eval_data is not None else calibration_part(data)
    store = out_file.parent / f"{out_file.stem}.measured"
    monitor = None if eval_suite is None else Monitor(
        eval_suite, watched, every=every, limit=eval_limit, store=store, data_dir=data_dir
    )  # fmt: skip

    if logits is not None and distill is None:
        raise UsageError("--logits is about what a teacher predicts; give --distill.")
    usual = chosen.defenses if chosen is not None else () if distill else ("plain",)
    named = (*(defense or usual), *([] if distill is None else [learning_from(distill, logits)]))
    if start is None and (tuning is not None or new_head):
        raise UsageError("--tuning and --new-head are about the model to start from; give --from.")
    named = (*tuned_by(tuning or "full"), *named)
    if log_to is not None:
        check_log(log_to)
    if model is None and start is None:
        model = _DEMO

    def report(now: Any) -> None:
        if not quiet:
            err.print(f"epoch {now.epoch}/{now.epochs}  loss {now.loss:.4f}  {now.seconds:.0f} s", highlight=False)

    try:
        with quieted(quiet), progress_shown(quiet or not is_first(), "steps") as bar:
            done = train_from_spec(
                model, data, start=start, out=out_file, defenses=named,
                recipe=recipe, seed=seed, device=environment.device(local_device(device)),
                new_head=new_head, stored=None if stored is None else "float16" if stored == "float16" else "float32",
                data_dir=data_dir, progress=report, monitor=monitor,
                keep_best=keep_best, log_to=log_to,
                each=None if bar is None else lambda now: bar(now.step, now.steps, f"epoch {now.epoch:.1f}, loss {now.loss:.4f}"),
            )  # fmt: skip
    except KeyboardInterrupt as interrupted:
        err.print(f"\nInterrupted. {interrupted}", highlight=False, soft_wrap=True)
        raise typer.Exit(INTERRUPTED) from None
    if quiet or not is_first():
        return
    accuracy = "" if done.accuracy is None else f" Accuracy on the held-out split: {done.accuracy:.2%}."
    for one in done.measured:
        mark = "  kept" if keep_best and one.epoch == done.epoch else ""
        out.print(f"epoch {one.epoch}: clean {one.clean:.1%}, {eval_suite} {one.score:.1%}{mark}", highlight=False, soft_wrap=True)
    out.print(f"Wrote {out_file} after {done.seconds:.0f} s.{accuracy}", highlight=False, soft_wrap=True)
