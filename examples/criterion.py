"""Adversarial training in a plain PyTorch loop: the criterion is given images in place of logits, and nothing else changes."""

import torch
from torch import nn

import robustvit as rv

MEAN, STD = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)

start = rv.load_model("demo")
model = start.model.requires_grad_(True).train()  # any module from normalised images to logits
data = rv.load_data("digits?split=train")
samples = [data[row] for row in range(256)]
pixels = torch.stack([start.preprocess(sample.image) for sample in samples])
images, labels = (pixels - 0.5) / 0.5, torch.tensor([sample.label for sample in samples])

optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
defense = rv.load_defense("pgd_at", eps="4/255", steps=2)
criterion = rv.DefenseLoss(defense, model, nn.CrossEntropyLoss(label_smoothing=0.1), mean=MEAN, std=STD)
monitor = rv.Monitor("quick", "digits?part=calibration", limit=24, store="watched")

for epoch in range(1, 3):
    for rows in torch.randperm(len(images)).split(64):
        loss = criterion(images[rows], labels[rows], ids=[samples[row].id for row in rows])  # was: criterion(model(images[rows]), …)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    found = monitor.measure(rv.as_classifier(model, start.view, MEAN, STD), epoch)
    print(f"epoch {epoch}: loss {loss.item():.3f}, clean {found.clean:.1%}, robust {found.score:.1%}")
