"""What a run tells its caller: how far it is, and what came of it."""
