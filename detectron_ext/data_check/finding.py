"""What a check of data sets found, and the images that show it."""

from __future__ import annotations

from typing import NamedTuple, Sequence

import numpy as np

# More pictures of one finding say nothing new.
MAX_CASES = 4


class Case(NamedTuple):
    """An image that shows a finding.

    Attributes:
        dataset: catalog name of the data set.
        image_id: id of the image in it.
        boxes: (N, 4) x, y, width, height in pixels of the image file, the boxes at fault. If N is
            0, the image as a whole is at fault.
        caption: what the boxes are, for people.
        labels: a text for each box, such as its class; () if the boxes have none.
    """

    dataset: str
    image_id: int | str
    boxes: np.ndarray
    caption: str
    labels: Sequence[str] = ()


class Finding(NamedTuple):
    """Something that is wrong or suspicious.

    Attributes:
        message: one line that names the data set, what is at fault, how often, and what to do.
        cases: the worst images, at most `MAX_CASES`.
    """

    message: str
    cases: Sequence[Case] = ()


NO_BOXES = np.zeros((0, 4))
