"""One checked constructor for each OpenVINO operation, by family: `ops.convolution(x, w, strides=(1, 1), ...)`."""

from batchconv.ops.core import *  # noqa: F403
from batchconv.ops.elementwise import *  # noqa: F403
