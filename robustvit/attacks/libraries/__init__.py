"""Attacks of other libraries, under names such as `torchattacks/PGD`."""
