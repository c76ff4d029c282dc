"""What transforms share: surgery on the modules of a model, which models they take, and how they are applied."""
