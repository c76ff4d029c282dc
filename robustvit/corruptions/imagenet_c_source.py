"""Source, licence, citation and rules shared by the corruptions of ImageNet-C (fifteen, and four extra ones), and by its port's own."""

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
    "Generated at the model's input size by the definitions of the released ImageNet-C; lengths are in pixels at any size. "
    "The released ImageNet-C is 224 px and was stored as JPEG of quality 85: say which one you used when you compare."
)

PORT_SOURCE = "Michaelis et al. 2019, Benchmarking Robustness in Object Detection: the definition of the package imagecorruptions 1.1.2"
PORT_URL = "https://github.com/bethgelab/imagecorruptions"
PORT_CITATION = """@article{michaelis2019benchmarking,
  title={Benchmarking Robustness in Object Detection: Autonomous Driving when Winter is Coming},
  author={Michaelis, Claudio and Mitzkus, Benjamin and Geirhos, Robert and Rusak, Evgenia and Bringmann, Oliver and Ecker, Alexander S.
    and Bethge, Matthias and Brendel, Wieland},
  journal={arXiv preprint arXiv:1907.07484},
  year={2019}
}"""
PORT_RULES = (
    "Generated at the model's input size by the definition of imagecorruptions 1.1.2, which is not that of the released ImageNet-C: "
    "in an average that is published for the latter it is a stand-in."
)
