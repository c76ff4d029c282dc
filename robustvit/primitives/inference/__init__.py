"""How classifiers compute: tiles, masked inference with dropped tokens, attention maps and attention temperature."""
