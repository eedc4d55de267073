"""Vectors of 16 (and of 4) float32 inside numba functions: + − × ÷, fma, sqrt, min, max, selection.

LLVM's own vectoriser gives up on loops that touch a dozen arrays, because it can't prove that they don't overlap, and
it may not reorder sums. Here the vectors are written out, so the machine code is what the formula says: every
operation is one IEEE operation, rounded once, and nothing is contracted (`fma` is fused because it is asked for). One
value fills an AVX-512 register, two of AVX2 or four of NEON.

    @njit
    def scale(out, image, factor, num):
        f = splat(factor)
        for x in range(0, num, 16):
            store(out, y, x, load(image, y, x) * f)
"""

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.datamodel import models, register_default
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin

LANES = 16

_FLOAT = ir.FloatType()
_INT = ir.IntType(32)
_FLOATS = ir.VectorType(_FLOAT, LANES)
_FOUR = ir.VectorType(_FLOAT, 4)
_INTS = ir.VectorType(_INT, LANES)
_BITS = ir.VectorType(ir.IntType(1), LANES)


class _VectorType(types.Type):
    """A numba type that is held as one LLVM vector."""

    def __init__(self, name: str, llvm: ir.VectorType) -> None:
        self.llvm = llvm
        super().__init__(name=name)


class _Floats(_VectorType):
    pass


class _Ints(_VectorType):
    pass


class _Mask(_VectorType):
    pass


F32X16 = _Floats("F32x16", _FLOATS)
F32X4 = _Floats("F32x4", _FOUR)
I32X16 = _Ints("I32x16", _INTS)
MASK16 = _Mask("Mask16", _BITS)


@register_default(_Floats)
@register_default(_Ints)
@register_default(_Mask)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: _VectorType) -> None:
        super().__init__(dmm, fe_type, fe_type.llvm)


def _operator(function: Callable, operand: _VectorType, result: _VectorType, emit: Callable) -> None:
    """Teach numba `function(operand, operand) -> result`, by the instruction that `emit(builder, a, b)` writes."""

    class Template(AbstractTemplate):
        def generic(self, args: tuple, kws: dict) -> Any:
            return signature(result, operand, operand) if args == (operand, operand) and not kws else None

    infer_global(function)(Template)
    lower_builtin(function, operand, operand)(lambda context, builder, sig, args: emit(builder, *args))


for _function, _emit in {
    operator.add: lambda builder, a, b: builder.fadd(a, b),
    operator.sub: lambda builder, a, b: builder.fsub(a, b),
    operator.mul: lambda builder, a, b: builder.fmul(a, b),
    operator.truediv: lambda builder, a, b: builder.fdiv(a, b),
}.items():
    _operator(_function, F32X16, F32X16, _emit)
_operator(operator.mul, F32X4, F32X4, lambda builder, a, b: builder.fmul(a, b))
_operator(operator.gt, F32X16, MASK16, lambda builder, a, b: builder.fcmp_ordered(">", a, b))
_operator(operator.ne, F32X16, MASK16, lambda builder, a, b: builder.fcmp_unordered("!=", a, b))
_operator(operator.lt, F32X16, MASK16, lambda builder, a, b: builder.fcmp_ordered("<", a, b))
for _function, _emit in {
    operator.add: lambda builder, a, b: builder.add(a, b),
    operator.mul: lambda builder, a, b: builder.mul(a, b),
}.items():
    _operator(_function, I32X16, I32X16, _emit)
_operator(operator.and_, MASK16, MASK16, lambda builder, a, b: builder.and_(a, b))


def _elementwise(name: str, num_operands: int) -> Callable:
    """An intrinsic that calls LLVM's function `name` on vectors of float32."""

    def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: tuple) -> Any:
        vector = sig.return_type.llvm
        kind = ir.FunctionType(vector, [vector] * num_operands)
        function = cgutils.get_or_insert_function(builder.module, kind, f"{name}.v{vector.count}f32")
        return builder.call(function, args)

    def typed(a: Any) -> Any:
        return (a(*[a] * num_operands), emit) if isinstance(a, _Floats) else None

    if num_operands == 1:
        return intrinsic(lambda typingctx, a: typed(a))
    if num_operands == 2:
        return intrinsic(lambda typingctx, a, b: typed(a))
    return intrinsic(lambda typingctx, a, b, c: typed(a))


sqrt = _elementwise("llvm.sqrt", 1)
floor = _elementwise("llvm.floor", 1)
absolute = _elementwise("llvm.fabs", 1)
fma = _elementwise("llvm.fma", 3)  # a·b + c, rounded once
copysign = _elementwise("llvm.copysign", 2)  # the size of a, the sign of b


@intrinsic
def negative(typingctx, vector):
    """The lanes with their signs changed; costs nothing inside an fma, where 0 - x would be an operation."""
    return F32X16(F32X16), lambda context, builder, sig, args: builder.fneg(args[0])


def _compare_and_take(comparison: str) -> Callable:
    # the form that becomes one minps / maxps; llvm.minnum would add instructions for NaN
    def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: tuple) -> Any:
        return builder.select(builder.fcmp_ordered(comparison, args[0], args[1]), args[0], args[1])

    return intrinsic(lambda typingctx, a, b: (F32X16(F32X16, F32X16), emit))


minimum = _compare_and_take("<")
maximum = _compare_and_take(">")


@intrinsic
def select(typingctx, mask, a, b):
    """`a` in the lanes where `mask` holds, `b` in the others."""

    def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: tuple) -> Any:
        return builder.select(*args)

    return F32X16(MASK16, F32X16, F32X16), emit


@intrinsic
def any_lane(typingctx, mask):
    """Whether `mask` holds in at least one lane."""

    def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: tuple) -> Any:
        bits = ir.IntType(LANES)
        return builder.icmp_unsigned("!=", builder.bitcast(args[0], bits), bits(0))

    return types.boolean(MASK16), emit


@intrinsic
def hypot_in_double(typingctx, a, b):
    """√(a² + b²), computed in float64 and rounded to float32."""

    def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: tuple) -> Any:
        doubles = ir.VectorType(ir.DoubleType(), LANES)
        root = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(doubles, [doubles]), f"llvm.sqrt.v{LANES}f64"
        )
        squares = [builder.fmul(wide, wide) for wide in (builder.fpext(arg, doubles) for arg in args)]
        return builder.fptrunc(builder.call(root, [builder.fadd(*squares)]), _FLOATS)

    return F32X16(F32X16, F32X16), emit


@intrinsic
def splat(typingctx, value):
    """A vector with `value` (a float32 or an int32) in every lane."""
    result = {types.float32: F32X16, types.int32: I32X16}.get(value)
    return (result(value), _emit_splat) if result else None


@intrinsic
def splat4(typingctx, value):
    """A vector of four with `value` (a float32) in every lane."""
    return F32X4(types.float32), _emit_splat


def _emit_splat(context: Any, builder: ir.IRBuilder, sig: Any, args: tuple) -> Any:
    vector = sig.return_type.llvm
    undefined = ir.Constant(vector, ir.Undefined)
    zeros = ir.Constant(ir.VectorType(_INT, vector.count), [0] * vector.count)
    return builder.shuffle_vector(builder.insert_element(undefined, args[0], _INT(0)), undefined, zeros)


@intrinsic
def lane_numbers(typingctx):
    """0.0, 1.0 … 15.0."""

    def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: tuple) -> Any:
        return ir.Constant(_FLOATS, [float(i) for i in range(LANES)])

    return F32X16(), emit


@intrinsic
def total(typingctx, vector):
    """The sum of the 16 lanes, in pairs, as float32."""

    def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: tuple) -> Any:
        lanes = [builder.extract_element(args[0], _INT(i)) for i in range(LANES)]
        while len(lanes) > 1:
            lanes = [builder.fadd(a, b) for a, b in zip(lanes[::2], lanes[1::2], strict=True)]
        return lanes[0]

    return types.float32(F32X16), emit


@intrinsic
def to_int(typingctx, vector):
    """float32 lanes, already whole numbers within int32, as int32."""

    def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: tuple) -> Any:
        return builder.fptosi(args[0], _INTS)

    return I32X16(F32X16), emit


def _element_pointer(context: Any, builder: ir.IRBuilder, kind: types.Array, array: Any, y: Any, x: Any) -> Any:
    """A pointer to array[y, x] of a C-contiguous 2-D float32 array; the index may lie in the padding, unchecked."""
    fields = context.make_array(kind)(context, builder, array)
    width = builder.extract_value(fields.shape, 1)
    return builder.gep(fields.data, [builder.add(builder.mul(y, width), x)])


def _emit_load(context: Any, builder: ir.IRBuilder, sig: Any, args: tuple) -> Any:
    pointer = _element_pointer(context, builder, sig.args[0], *args)
    return builder.load(builder.bitcast(pointer, sig.return_type.llvm.as_pointer()), align=4)


def _emit_store(context: Any, builder: ir.IRBuilder, sig: Any, args: tuple) -> Any:
    pointer = _element_pointer(context, builder, sig.args[0], *args[:3])
    builder.store(args[3], builder.bitcast(pointer, sig.args[3].llvm.as_pointer()), align=4)
    return context.get_dummy_value()


@intrinsic
def load(typingctx, array, y, x):
    """array[y, x : x + 16] of a C-contiguous float32 array (rows, columns). Nothing is checked."""
    return F32X16(array, types.intp, types.intp), _emit_load


@intrinsic
def load4(typingctx, array, y, x):
    """array[y, x : x + 4]. Nothing is checked."""
    return F32X4(array, types.intp, types.intp), _emit_load


@intrinsic
def store(typingctx, array, y, x, vector):
    """array[y, x : x + lanes] = vector, in the vector's own type. Nothing is checked."""
    return types.void(array, types.intp, types.intp, vector), _emit_store


def _load_every_fourth(offset: int) -> Callable:
    def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: tuple) -> Any:
        all_four = ir.VectorType(_FLOAT, 4 * LANES)
        pointer = _element_pointer(context, builder, sig.args[0], *args)
        values = builder.load(builder.bitcast(pointer, all_four.as_pointer()), align=4)
        lanes = ir.Constant(ir.VectorType(_INT, LANES), [4 * i + offset for i in range(LANES)])
        return builder.shuffle_vector(values, ir.Constant(all_four, ir.Undefined), lanes)

    return intrinsic(lambda typingctx, array, y, x: (F32X16(array, types.intp, types.intp), emit))


load_first_of_4 = _load_every_fourth(0)  # array[y, x : x + 64 : 4]
load_second_of_4 = _load_every_fourth(1)  # array[y, x + 1 : x + 64 : 4]
load_third_of_4 = _load_every_fourth(2)  # array[y, x + 2 : x + 64 : 4]


def _address_pointer(builder: ir.IRBuilder, address: Any, index: Any, vector: ir.VectorType) -> Any:
    pointer = builder.inttoptr(address, _FLOAT.as_pointer())
    return builder.bitcast(builder.gep(pointer, [index]), vector.as_pointer())


@intrinsic
def load_at(typingctx, address, index):
    """The 16 float32 from `index` on, counted from `address` (`array.ctypes.data`). Nothing is checked."""

    def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: tuple) -> Any:
        return builder.load(_address_pointer(builder, args[0], args[1], _FLOATS), align=4)

    return F32X16(types.intp, types.intp), emit


@intrinsic
def store_at(typingctx, address, index, vector):
    """Put `vector` where `load_at(address, index)` reads. Nothing is checked."""

    def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: tuple) -> Any:
        builder.store(args[2], _address_pointer(builder, args[0], args[1], _FLOATS), align=4)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, F32X16), emit


@intrinsic
def copy_left_neighbour(typingctx, address, index):
    """Set the float32 at `index` from `address` to the one before it."""

    def emit(context: Any, builder: ir.IRBuilder, sig: Any, args: tuple) -> Any:
        here = builder.gep(builder.inttoptr(args[0], _FLOAT.as_pointer()), [args[1]])
        builder.store(builder.load(builder.gep(here, [_INT(-1)])), here)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp), emit
