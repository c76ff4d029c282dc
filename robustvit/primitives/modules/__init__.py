"""The torch modules of models: what they say of themselves, and what is done to have logits of them."""
