"""Parts of a model found, exchanged or taken away: its blocks, attention heads, positions, and the channels that it is shown."""
