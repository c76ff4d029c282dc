"""Pages served to the browsers of this machine, and to nobody else."""
