"""The four kinds of scenario: how a plug-in's plain function becomes a Scenario, and what a run must know of its kind. One module for each kind."""
