"""Reads and writes of shared integers that neither the compiler nor the processor may reorder.

numba offers none for CPUs; these emit LLVM's own atomic instructions. To call from kernels only, on
aligned int64 arrays. `acquire` and `release` are plain moves on x86-64 and barriers elsewhere;
`fence` is the full barrier that two processes need who each write a flag and then read the other's.

Source:
    LLVM Language Reference, "Atomic Memory Ordering Constraints"; ISO C11, section 5.1.2.4.
"""

from typing import Any

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_ALIGN = 8


def _place(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    array = context.make_array(signature.args[0])(context, builder, args[0])
    index = context.cast(builder, args[1], signature.args[1], types.intp)
    return cgutils.gep_inbounds(builder, array.data, index)


@intrinsic  # type: ignore[untyped-decorator]
def acquire(_typing: Any, array: Any, index: Any) -> Any:
    """Read `array[index]`; what is read or written after it stays after it."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load_atomic(_place(context, builder, signature, args), "acquire", _ALIGN)

    return types.int64(array, index), generate


@intrinsic  # type: ignore[untyped-decorator]
def release(_typing: Any, array: Any, index: Any, value: Any) -> Any:
    """Write `array[index] = value`; what was read or written before it stays before it."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        whole = context.cast(builder, args[2], signature.args[2], types.int64)
        place = _place(context, builder, signature, args)
        builder.store_atomic(whole, place, "release", _ALIGN)
        return context.get_dummy_value()

    return types.void(array, index, value), generate


@intrinsic  # type: ignore[untyped-decorator]
def fence(_typing: Any) -> Any:
    """Let nothing pass in either direction."""

    def generate(context: Any, builder: Any, _signature: Any, _args: Any) -> Any:
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic  # type: ignore[untyped-decorator]
def order(_typing: Any) -> Any:
    """Let no read pass a later read or write, and no write pass a later write: free on x86-64."""

    def generate(context: Any, builder: Any, _signature: Any, _args: Any) -> Any:
        builder.fence("acq_rel")
        return context.get_dummy_value()

    return types.void(), generate
