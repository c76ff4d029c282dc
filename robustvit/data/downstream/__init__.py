"""Data sets to which pretrained models are commonly transferred, in the folders that torchvision unpacks, and tasks on the digits."""
