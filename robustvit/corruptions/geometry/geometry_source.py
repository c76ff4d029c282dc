"""Where the geometric corruptions come from, and what holds for all of them."""

SOURCE = "Ding et al. 2023, Reviving Shift Equivariance in Vision Transformers, robustness to geometric transforms"
URL = "https://arxiv.org/abs/2306.07470"
LICENCE = "a published definition; no code is used"
CITATION = """@article{ding2023reviving,
  title={Reviving Shift Equivariance in Vision Transformers},
  author={Ding, Peijian and Soselia, Davit and Armstrong, Thomas and Su, Jiahao and Huang, Furong},
  journal={arXiv preprint arXiv:2306.07470},
  year={2023}
}"""
RULES = (
    "Drawn for each image, on pixels in [0, 1], not truncated to 8 bits. The paper's transforms follow normalisation, so that what enters "
    "is the mean of the data there, and is black here under the border rule zeros. "
)
