"""What is to be evaluated, as data: Specs, Cells, Suites, and the registry of plug-ins. Never torch."""
