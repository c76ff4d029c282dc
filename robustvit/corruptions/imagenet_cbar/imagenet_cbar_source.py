"""Source, licence, citation and rules shared by the ten corruptions of ImageNet-C̄."""

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
    "Generated at the model's input size, with the strengths of imagenet_c_bar.csv for severities 1 to 5; lengths defined as fractions "
    "of the side are fractions of the longer side. The released files are 224 px and were stored as JPEG of quality 85."
)
