"""What several plug-ins take as a parameter: whole numbers from 1 or 0, radii above 0, and weights from 0."""

from typing import Annotated

from annotated_types import Ge, Gt

Count = Annotated[int, Ge(1)]
Whole = Annotated[int, Ge(0)]
Radius = Annotated[float, Gt(0)]
NonNegative = Annotated[float, Ge(0)]
