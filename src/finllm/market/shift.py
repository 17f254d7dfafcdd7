"""Moving a run of integers within an array, for kernels.

numba compiles `a[i] = a[i - 1]` in a loop to one load and store an element, and copies overlapping
slices through fresh memory. C's `memmove` shifted 1,000 levels in 0.05 us instead of 0.5.
"""

from typing import Any

from numba.core import cgutils, types
from numba.extending import intrinsic


@intrinsic  # type: ignore[untyped-decorator] # numba ships no types
def move(_typing: Any, array: Any, to: Any, start: Any, count: Any) -> Any:
    """Move `count` items of a contiguous int64 array from offset `start` to offset `to`.

    No bounds are checked. The two runs may overlap.
    """
    signature = types.void(array, types.int64, types.int64, types.int64)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        target, source = builder.gep(data, [args[1]]), builder.gep(data, [args[2]])
        cgutils.raw_memmove(builder, target, source, args[3], 8)
        return context.get_dummy_value()

    return signature, generate
