"""The page of a run that goes on: made anew where the store has changed."""
