"""Adversarial training: defenses whose images are made against the model that is trained."""
