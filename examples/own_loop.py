"""A loop of your own: any corruption or attack by name, on pixels in [0, 1]."""

import torch

import robustvit as rv

model = rv.load_model("demo")
data = rv.load_data("digits")
samples = [data[i] for i in range(64)]
images = torch.stack([model.preprocess(sample.image) for sample in samples])
labels = torch.tensor([sample.label for sample in samples])
ids = [sample.id for sample in samples]

with torch.no_grad():
    clean = (model(images).argmax(dim=1) == labels).float().mean()
print(f"clean          {clean:.1%}")

foggy = rv.perturb(None, images, None, "fog", severity=3, ids=ids)
print(f"fog 3          {(model(foggy).argmax(dim=1) == labels).float().mean():.1%}")

crafted = rv.perturb(model, images, labels, "pgd", eps="1/255", steps=10, seed=0, ids=ids)
print(f"pgd 1/255      {(model(crafted).argmax(dim=1) == labels).float().mean():.1%}")
print(f"largest change {float((crafted - images).abs().max()) * 255:.2f}/255")
