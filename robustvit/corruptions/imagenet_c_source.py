"""Where the corruptions of ImageNet-C, fifteen and four more, come from: the words that every one of them carries."""

SOURCE = "Hendrycks & Dietterich 2019, Benchmarking Neural Network Robustness to Common Corruptions and Perturbations (ICLR)"
URL = "https://github.com/hendrycks/robustness"
LICENCE = "Apache-2.0"
CITATION = """@inproceedings{hendrycks2019robustness,
  title={Benchmarking Neural Network Robustness to Common Corruptions and Perturbations},
  author={Hendrycks, Dan and Dietterich, Thomas},
  booktitle={International Conference on Learning Representations},
  year={2019}
}"""
RULES = (
    "Made here at the size the model sees, by the definitions of imagecorruptions 1.1.2; lengths are in pixels, whatever the size. "
    "The released ImageNet-C is 224 px and was stored as JPEG of quality 85: name it when you compare."
)
