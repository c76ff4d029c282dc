"""Model cards of the Hugging Face hub: a section with robustness, kept beside what else a card says."""
