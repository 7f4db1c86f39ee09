"""The definition of every operator in numpy, with float64 numbers.

The tests compare all implementations with these definitions, which are written to be read and not
to be fast. The gradient of a function `f` is the function `f_gradient` beside it. It takes the
gradients of the outputs as last arguments and returns the gradient of each input that has one.

All public functions of the modules in this folder can also be imported from here.
"""

# ruff: noqa: F403 -- each module says in `__all__` what it exports

from detectron_ext.ops.reference.affine import *
from detectron_ext.ops.reference.attention import *
from detectron_ext.ops.reference.box_losses import *
from detectron_ext.ops.reference.focal_losses import *
from detectron_ext.ops.reference.gradient_mass import *
from detectron_ext.ops.reference.non_local import *
from detectron_ext.ops.reference.pyramid import *
from detectron_ext.ops.reference.quality_focal import *
from detectron_ext.ops.reference.regions import *
from detectron_ext.ops.reference.selected_anchors import *
from detectron_ext.ops.reference.softmax import *
