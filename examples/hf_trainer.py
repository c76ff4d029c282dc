# needs: transformers, accelerate
"""Adversarial training of a ViT in Hugging Face's Trainer, from its image processor's mean and std, and robust numbers in its logs."""

import torch
from transformers import TrainingArguments, ViTConfig, ViTForImageClassification, ViTImageProcessor

import robustvit as rv
from robustvit.training.adapters.huggingface import DefenseTrainer, TrainerMonitor

torch.manual_seed(0)
shape = {"image_size": 32, "patch_size": 8, "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 96}
model = ViTForImageClassification(ViTConfig(**shape, num_labels=10))
processor = ViTImageProcessor(size={"height": 32, "width": 32}, image_mean=[0.5] * 3, image_std=[0.5] * 3)

data = rv.load_data("digits?split=train")
images = processor([data[row].image for row in range(512)], return_tensors="pt")["pixel_values"]
rows = [{"pixel_values": image, "labels": int(data.labels[row])} for row, image in enumerate(images)]

arguments = TrainingArguments(
    output_dir="out", per_device_train_batch_size=64, num_train_epochs=3, learning_rate=2e-3, max_grad_norm=1.0, use_cpu=True,
    save_strategy="no", report_to=[], disable_tqdm=True,
)  # fmt: skip
defense = rv.load_defense("pgd_at", eps="2/255", steps=2)
trainer = DefenseTrainer(model, arguments, defense=defense, train_dataset=rows, processing_class=processor)
monitor = rv.Monitor("quick", "digits?part=calibration", limit=24, every=3, store="watched")
trainer.add_callback(TrainerMonitor(trainer, monitor, view=rv.View(size=(32, 32), resize=32)))
trainer.train()
print(trainer.state.log_history[-2])
