"""The four kinds of scenario: how a plug-in becomes a Scenario, and what a run must know of its kind. One module for each kind."""
