"""One checked constructor for each OpenVINO operation, by family: `ops.convolution(x, w, strides=(1, 1), ...)`."""

from batchconv.ops import elementwise, indexing, movement
from batchconv.ops.arrange import *  # noqa: F403
from batchconv.ops.core import *  # noqa: F403
from batchconv.ops.detection import *  # noqa: F403
from batchconv.ops.elementwise import *  # noqa: F403
from batchconv.ops.image import *  # noqa: F403
from batchconv.ops.indexing import *  # noqa: F403
from batchconv.ops.matmul import *  # noqa: F403
from batchconv.ops.movement import *  # noqa: F403
from batchconv.ops.nn import *  # noqa: F403
from batchconv.ops.reduction import *  # noqa: F403
from batchconv.ops.sequence import *  # noqa: F403
from batchconv.ops.signal import *  # noqa: F403
from batchconv.ops.state import *  # noqa: F403
from batchconv.ops.vision import *  # noqa: F403

# names that are Python's own have an underscore where they are defined
abs = elementwise.absolute
broadcast = movement.broadcast_
range = movement.range_
round = elementwise.round_
slice = indexing.slice_
