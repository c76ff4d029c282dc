"""How runs of a store go: who computes into it, at which rate, and how long it still takes."""
