"""A model of your own: any torch module from normalised images to logits, through `package.module:factory`.

robustvit run --model own_model:tiny --limit 50        (from this folder)
"""

import timm
import torch

import robustvit as rv


def tiny() -> torch.nn.Module:
    """A module whose `pretrained_cfg` says how its images are prepared."""
    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_patch16_224", img_size=32, patch_size=8, depth=2, num_classes=10)
    model.pretrained_cfg = {
        "input_size": (3, 32, 32),
        "mean": (0.5, 0.5, 0.5),
        "std": (0.5, 0.5, 0.5),
        "crop_pct": 1.0,
        "interpolation": "bicubic",
    }
    return model


if __name__ == "__main__":
    done = rv.run("quick", models=["own_model:tiny"], store="results-own", limit=20)
    board = rv.leaderboard("results-own")
    print(f"{done.computed} rows computed")
    print(
        board.loc[(board.metric == "top1") & (board.scenario == "clean"), ["model", "value", "low", "high", "n", "weights"]].to_string(
            index=False
        )
    )
