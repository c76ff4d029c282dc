"""Whether attacks on a pre-trained backbone break what is fine-tuned from it: trained here, on digits, and resumable.

Backbones (supervised on orientation, masked autoencoder, contrastive; three seeds) learn no digit. Victims are tuned from them (full,
linear, LoRA) for two tasks, the digit and its parity, on the training split. The attacks of the suite `downstream-transfer`, with fewer
images for what is fitted, are crafted on the backbone, and judged on one fifth of the held-out split; what they are fitted to are the
other four. `python reports/downstream_transfer.py FOLDER` continues where it stopped, and prints the success rates with t-intervals over
seeds.
"""

from __future__ import annotations

import argparse
import itertools
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import stdtrit

import robustvit as rv
from robustvit.results.transfer_matrix import transfer_matrix

VIT = (
    "vit_tiny_patch16_224?weights=random&num_classes={classes}&crop_pct=1&kwargs=img_size=32,patch_size=8,embed_dim=96,depth=4,num_heads=3"
)
BACKBONES = {  # the defense, how many times as many epochs as the victims, and what else differs
    "supervised": ("plain", 2, ()),
    "mae": ("mae(width=64,blocks=2,heads=4)", 12, ()),
    "simclr": ("simclr(flip=0,temperature=0.2,scale=0.4,blur=0)", 4, ("--batch-size", "128", "--lr", "0.002")),
}
TASKS = {"digit": "digits", "parity": "digit-tasks?task=parity"}
TUNINGS = {"full": 0.002, "linear": 0.03, "lora(rank=8)": 0.005}  # with their learning rates
SEEDS = (0, 1, 2)
SUITE = Path(__file__).with_name("downstream_transfer.yaml")


def train(out: Path, *words: str) -> str:
    """Trains a checkpoint where it is not there; returns its address."""
    if not out.exists():
        subprocess.run([sys.executable, "-m", "robustvit", "train", *words, "--out", str(out), "--stored", "float32", "-q"], check=True)
    return f"file:{out}"


def backbone(folder: Path, kind: str, seed: int, epochs: int) -> str:
    """A backbone that no digit was a label of."""
    pretext, times, settings = BACKBONES[kind]
    return train(
        folder / f"{kind}-{seed}.safetensors", "--model", VIT.format(classes=4), "--data", "digit-tasks?task=orientation",
        "--defense", pretext, "--epochs", str(times * epochs), "--seed", str(seed), *settings,
    )  # fmt: skip


def victim(folder: Path, kind: str, seed: int, task: str, tuning: str, epochs: int) -> str:
    """A model that is tuned from the backbone for a task."""
    name = f"{kind}-{seed}-{task}-{tuning.partition('(')[0]}"
    return train(
        folder / f"{name}.safetensors", "--from", f"file:{folder / f'{kind}-{seed}.safetensors'}", "--new-head", "--tuning", tuning,
        "--data", TASKS[task], "--epochs", str(epochs), "--seed", str(seed), "--lr", str(TUNINGS[tuning]),
    )  # fmt: skip


def measured(folder: Path, limit: int, epochs: int, seeds: Sequence[int] = SEEDS) -> pd.DataFrame:
    """One row for each backbone, task, tuning, seed and attack: the success rates on the victim."""
    found = []
    for seed, kind, task in itertools.product(seeds, BACKBONES, TASKS):
        source = backbone(folder, kind, seed, epochs)
        models = [victim(folder, kind, seed, task, tuning, epochs) for tuning in TUNINGS]
        store, data = folder / f"results-{kind}-{seed}-{task}", TASKS[task]
        judged = f"{data}{'&' if '?' in data else '?'}part=5/5"
        rv.run(SUITE, models, judged, store=store, limit=limit, surrogates=[source])
        clean = rv.leaderboard(store, metrics=["top1"]).query("scenario == 'clean'").set_index("model")["value"]
        table = transfer_matrix(store).query("source != target")
        attack = table["scenario"] + table["params"].str.extract(r"variant=(\w+)", expand=False).radd(" ").fillna("")
        tuned = table["target"].str.rpartition("-")[2]
        own = {"kind": kind, "task": task, "seed": seed, "attack": attack, "tuning": tuned, "clean": table["target"].map(clean)}
        found.append(table[["stored_as", "success_all", "success_both", "n_both", "success_both_low", "success_both_high"]].assign(**own))
        print(f"{kind} {task} {seed}: {', '.join(f'{name} {value:.1f}' for name, value in clean.items())}", flush=True)
    return pd.concat(found, ignore_index=True)


def summary(rows: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """The mean of `success_both` over whatever is not in `by`, with the t-interval of the means over seeds."""
    means = rows.groupby([*by, "seed"])["success_both"].mean().unstack("seed")
    half = stdtrit(len(SEEDS) - 1, 0.975) * means.std(axis=1, ddof=1) / np.sqrt(len(SEEDS))
    return pd.DataFrame({"mean": means.mean(axis=1), "half": half}).round(1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where checkpoints, stores and the table are")
    parser.add_argument("--limit", type=int, default=100, help="images that are judged")
    parser.add_argument("--epochs", type=int, default=15, help="of the victims; backbones take 2, 12 and 4 times as many")
    parser.add_argument("--seed", type=int, action="append", help="only these, as for several processes; the table then lacks the others")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    table = measured(given.folder, given.limit, given.epochs, given.seed or SEEDS)
    table.to_csv(given.folder / "downstream_transfer.csv", index=False)
    crafted = table[table["stored_as"] == ""]
    for by in (["attack"], ["kind", "attack"], ["tuning", "attack"], ["task", "attack"]):
        print(summary(crafted, by).to_string(), "\n")
