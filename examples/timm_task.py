# needs: timm.task
"""A training task of timm with a defense, called as timm's train.py calls it."""

import timm
import torch
from timm.data import Mixup
from timm.loss import SoftTargetCrossEntropy
from timm.optim import create_optimizer_v2

import robustvit as rv
from robustvit.training.adapters.timm import DefenseTask

MEAN, STD = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)

torch.manual_seed(0)
model = timm.create_model("vit_tiny_patch16_224", img_size=32, patch_size=8, depth=2, num_classes=10)
view = rv.View(size=(32, 32), resize=32)
task = DefenseTask(model, rv.load_defense("pgd_at", eps="2/255", steps=2), SoftTargetCrossEntropy(), mean=MEAN, std=STD, clip=1.0)
optimizer = create_optimizer_v2(task.get_trainable_module(), opt="adamw", lr=2e-3, weight_decay=0.05)
task.attach(optimizer)

data, mixup = rv.load_data("digits?split=train"), Mixup(mixup_alpha=0.2, num_classes=10, label_smoothing=0.1)
start = rv.load_model("demo")
pixels = torch.stack([start.preprocess(data[row].image) for row in range(512)])
labels = torch.tensor(data.labels[:512])
for epoch in range(3):
    for rows in torch.randperm(512).split(64):
        result = task(*mixup((pixels[rows] - 0.5) / 0.5, labels[rows]))
        result["loss"].backward()
        torch.nn.utils.clip_grad_norm_(task.get_clip_parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    print(f"epoch {epoch + 1}: loss {result['loss'].item():.3f}")
