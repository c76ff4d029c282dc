"""Released adversarial patches."""
