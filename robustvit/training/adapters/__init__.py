"""Defenses in the training loops of others: plain PyTorch, Lightning, Hugging Face's Trainer, timm's tasks."""
