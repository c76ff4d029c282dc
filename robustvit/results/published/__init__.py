"""Published numbers and how far measured ones agree with them."""
