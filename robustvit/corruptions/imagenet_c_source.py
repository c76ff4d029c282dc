"""Source, licence, citation and rules shared by the corruptions of ImageNet-C (fifteen, and four extra ones)."""

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
    "Generated at the model's input size by the definitions of imagecorruptions 1.1.2; lengths are in pixels at any size. "
    "The released ImageNet-C is 224 px and was stored as JPEG of quality 85: say which one you used when you compare."
)
