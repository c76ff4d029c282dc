"""What robustness depends on: factors of models and their regressions."""
