"""Where the ten corruptions of ImageNet-C̄ come from: the words that every one of them carries."""

SOURCE = "Mintun, Kirillov & Xie 2021, On Interaction Between Augmentations and Corruptions in Natural Corruption Robustness (NeurIPS)"
URL = "https://github.com/facebookresearch/augmentation-corruption"
LICENCE = "MIT"
CITATION = """@inproceedings{mintun2021interaction,
  title={On Interaction Between Augmentations and Corruptions in Natural Corruption Robustness},
  author={Mintun, Eric and Kirillov, Alexander and Xie, Saining},
  booktitle={Advances in Neural Information Processing Systems},
  year={2021}
}"""
RULES = (
    "Made here at the size the model sees, with the strengths of imagenet_c_bar.csv for severities 1 to 5; lengths that the definition "
    "gives in shares of the side are shares of the longer side. The released files are 224 px and were stored as JPEG of quality 85."
)
