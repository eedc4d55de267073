"""Inflation: any 2D convolutional net as its 3D version, weights included (Carreira and Zisserman 2017, section 2.4.1).

    net3d = inflate(net2d)      # N×3×H×W in becomes N×3×T×H×W in, for any T
    net3d(video)

A kernel of k×k becomes k×k×k, the 2D one k times, divided by k; 1×1 stays one frame deep. Nothing strides or pools
time, so a map has a frame for each frame of the input, and clips are padded in time by repeating their first and last
frame. On a video that stands still the 3D net therefore gives the 2D net's maps, at every one of its frames.
Where the 2D net turns maps into vectors (flatten, view, squeeze, a mean over H and W), they are averaged over time
first, so its vectors and logits stay vectors and logits.
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from torch import fx, nn
from torch.fx.node import Node, map_arg

from pipeline.backbones import inflate_calls as calls
from pipeline.backbones.inflate_layers import ANY_RANK, ELEMENTWISE, LAYERS, TimeConv3d, inflate_weight
from schemas.errors import UsageError

TimeKernel = Callable[[str, tuple[int, int]], int]  # (name of the convolution, (kh, kw)) -> k_t
# where functions of torch live; a name that comes from elsewhere is another function
SOFTMAX = (nn.Softmax, nn.LogSoftmax)
TORCH = frozenset(
    {"torch", "torch.nn.functional", "torch._C._nn", "_operator", "torchvision.ops.stochastic_depth", None}
)


def as_in_space(name: str, kernel: tuple[int, int]) -> int:
    """As deep in time as the kernel is in space: k for k×k, the smaller side of an oblong one."""
    return min(kernel)


def inflate(net2d: nn.Module, *, time_kernel: TimeKernel | Mapping[str, int] = as_in_space) -> nn.Module:
    """The 3D version of a net that takes images N×C×H×W: one that takes clips N×C×T×H×W, T >= 1.

    `time_kernel` gives a convolution's depth in time from its name and kernel; a mapping does so for the convolutions
    that it names, and the others keep the default. Parameters keep their names, dtype and device. `net2d` is not
    changed, and each layer stays in the mode, train or eval, that it is in now; layers that forward never calls go.
    Raises UsageError, with the name of the layer or the call, for what has no 3D version here.
    """
    net = copy.deepcopy(net2d)
    graph = _traced(net)
    _Inflation(net, graph, time_kernel).run()
    inflated = fx.GraphModule(net, graph, class_name=f"Inflated{type(net2d).__name__}")
    modes = {name: module.training for name, module in net2d.named_modules()}
    for name, module in inflated.named_modules():
        module.training = modes.get(name, net2d.training)
    return inflated


def _traced(net: nn.Module) -> fx.Graph:
    try:
        return fx.Tracer().trace(net)
    except Exception as error:  # the forward is foreign code, and tracing it may fail in any way
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise UsageError(
            f"inflate: {type(net).__name__}'s forward can't be traced ({first}); it must make the same calls whatever "
            "its input is, and pass the sizes it computes on as they are"
        ) from error


class _Inflation:
    """One pass over the calls of a traced 2D net, which are rewritten in place.

    Every value of the new graph is either a map, N×C×T×H×W, or exactly what it is in the 2D net: a vector, a size, a
    parameter. `maps` are the nodes of the first kind, `lists` those that hold several maps, `lasts` maps that were
    permuted to N×T×H×W×C.
    """

    def __init__(self, net: nn.Module, graph: fx.Graph, time_kernel: TimeKernel | Mapping[str, int]) -> None:
        self.net = net
        self.graph = graph
        self.time_kernel = time_kernel
        self.maps: set[Node] = set()
        self.lists: set[Node] = set()
        self.lasts: set[Node] = set()
        self.convs: set[str] = set()  # names that time_kernel may give
        self.replaced: set[str] = set()  # layers and weights: each may be used more than once

    def run(self) -> None:
        for node in list(self.graph.nodes):
            for key in ("input", "tensors"):  # F.relu(input=x)
                if key in node.kwargs and not node.args:
                    node.args = (node.kwargs[key],)
                    node.kwargs = {name: value for name, value in node.kwargs.items() if name != key}
            getattr(self, f"_{node.op}")(node)
        unknown = set(self.time_kernel) - self.convs if isinstance(self.time_kernel, Mapping) else None
        if unknown:
            raise UsageError(f"inflate: time_kernel names {min(unknown)!r}, which is no convolution of this net")
        self.graph.lint()

    def _placeholder(self, node: Node) -> None:
        if not node.args:  # an argument with a default is an option, not an image
            self.maps.add(node)

    def _get_attr(self, node: Node) -> None:
        """Parameters stay as they are until they meet a map, or weigh a convolution."""

    def _output(self, node: Node) -> None:
        """What comes out is what the last call gave."""

    # ------------------------------------------------------------ layers

    def _call_module(self, node: Node) -> None:
        name = str(node.target)
        layer: Any = self.net.get_submodule(name)
        kind = type(layer)
        if name in self.replaced or kind is nn.Conv2d or kind in LAYERS:
            if name not in self.replaced:
                self._set(name, self._layer(node, name, layer))
            self._lift(node)
            self.maps.add(node)
        elif self._on(self.lasts, node):
            by_last = kind is nn.Linear or (kind is nn.LayerNorm and len(layer.normalized_shape) == 1)
            if kind not in ELEMENTWISE and not by_last:
                self._refuse(node)
            self.lasts.add(node)
        elif self._on_map(node):
            if kind is nn.Flatten:
                self._leave(node)
            elif kind in ANY_RANK or (kind in SOFTMAX and layer.dim == 1):
                self.maps.add(node)
            else:
                self._refuse(node)

    def _layer(self, node: Node, name: str, layer: Any) -> nn.Module:
        if getattr(layer, "return_indices", False):
            self._refuse(node, "with return_indices")
        if type(layer) is nn.Conv2d:
            return TimeConv3d(layer, self._depth(name, layer.kernel_size))
        return LAYERS[type(layer)](layer)

    def _depth(self, name: str, kernel: Any) -> int:
        self.convs.add(name)
        if isinstance(self.time_kernel, Mapping):
            depth = self.time_kernel.get(name, as_in_space(name, kernel))
        else:
            depth = self.time_kernel(name, kernel)
        if not isinstance(depth, int) or depth < 1:
            raise UsageError(f"inflate: time_kernel gives {depth!r} for {name}; it must be a whole number from 1")
        return depth

    def _set(self, name: str, value: nn.Module | nn.Parameter) -> None:
        owner, _, last = name.rpartition(".")
        setattr(self.net.get_submodule(owner), last, value)
        self.replaced.add(name)

    # ------------------------------------------------------------ functions and methods

    def _call_method(self, node: Node) -> None:
        self._call(node, str(node.target))

    def _call_function(self, node: Node) -> None:
        function: Any = node.target
        name = getattr(function, "__name__", str(function))
        if getattr(function, "__module__", None) not in TORCH and function is not getattr:
            name = f"{function.__module__}.{name}"
        if name == "conv2d":
            self._conv2d(node)
        else:
            self._call(node, name)

    def _call(self, node: Node, name: str) -> None:
        if self._on(self.lasts, node):
            self._call_on_last(node, name)
        elif self._on_map(node):
            self._call_on_map(node, name)

    def _call_on_last(self, node: Node, name: str) -> None:
        if name == "permute":
            self._permute(node, calls.FROM_LAST)
            self.maps.add(node)
        elif name in calls.CHANNELS_LAST and not self._on_map(node):
            self.lasts.add(node)
        else:
            self._refuse(node)

    def _call_on_map(self, node: Node, name: str) -> None:
        if name in ("getattr", "size", "dim"):
            self._size(node, name)
        elif name == "getitem":
            self._getitem(node)
        elif name in calls.SPATIAL:
            if node.kwargs.get("return_indices"):
                self._refuse(node, "with return_indices")
            self._turn_into(node, calls.SPATIAL[name])
            self.maps.add(node)
        elif name in calls.ANY_RANK and "memory_format" not in node.kwargs:
            self._lift(node)
            self.maps.add(node)
        elif name in calls.ALONG:
            self._along(node, name)
        elif name == "permute":
            self._permute(node, calls.TO_LAST)
            self.lasts.add(node)
        elif name in calls.REDUCTIONS:
            self._reduction(node)
        elif name in calls.LEAVING:
            self._leave(node)
        else:
            self._refuse(node)

    def _conv2d(self, node: Node) -> None:
        """F.conv2d of a parameter: the parameter itself is inflated, under its name."""
        weight = node.args[1] if len(node.args) > 1 else node.kwargs.get("weight")
        if not isinstance(weight, Node) or weight.op != "get_attr":
            self._refuse(node, "with a weight that is computed")
        name = str(weight.target)
        if name not in self.replaced:
            value: Any = operator.attrgetter(name)(self.net)
            depth = self._depth(name, tuple(value.shape[2:]))
            self._set(name, nn.Parameter(inflate_weight(value.detach(), depth), value.requires_grad))
        with self.graph.inserting_before(node):
            node.args = (self._lifted(node.args[0]), *node.args[1:])
        self._turn_into(node, calls.conv2d)
        self.maps.add(node)

    def _size(self, node: Node, name: str) -> None:
        """Sizes of maps are given as the 2D net would see them, so that what it computes on them holds."""
        if name == "getattr":
            attribute = node.args[1]
            if attribute in ("dtype", "device"):
                return
            if attribute not in ("shape", "ndim"):
                self._refuse(node)
            name = "size" if attribute == "shape" else "dim"
            node.args = node.args[:1]
        self._turn_into(node, calls.size if name == "size" else calls.rank)

    def _getitem(self, node: Node) -> None:
        source, index = node.args
        if source in self.lists:
            self.maps.add(node)
            return
        index = index if isinstance(index, tuple) else (index,)
        if not all(isinstance(part, slice) for part in index):
            self._refuse(node, "with anything but slices")
        node.args = (source, index)
        self._turn_into(node, calls.slices)
        self.maps.add(node)

    def _along(self, node: Node, name: str) -> None:
        """The axes after C are one further on, counted from the front; from the back they are where they were."""
        at = calls.ALONG[name]
        axis = node.kwargs.get("dim", node.args[at] if len(node.args) > at else None)
        if axis not in (None, 0, 1, -1, -2):
            self._refuse(node, f"along axis {axis}, where axis 0, 1, -1 or -2 can be named")
        self._lift(node)
        if name in ("cat", "concat"):
            self._turn_into(node, calls.cat)
        (self.lists if name in calls.SEVERAL else self.maps).add(node)

    def _reduction(self, node: Node) -> None:
        axes = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else None)
        axes = axes if isinstance(axes, list | tuple) else [axes]
        keeps = bool(node.kwargs.get("keepdim", node.args[2] if len(node.args) > 2 else False))
        if not all(isinstance(axis, int) for axis in axes):
            self._refuse(node, "without axes")
        places: set[Any] = {axis % 4 for axis in axes}  # type: ignore[operator]
        if keeps and 0 not in places:
            # negative, so that H and W are -2 and -1 with or without time
            node.args = (node.args[0], [axis if axis == 1 else axis - 4 for axis in sorted(places)])
            node.kwargs = {"keepdim": True}
            self.maps.add(node)
        elif places >= {2, 3}:
            self._leave(node)
        else:
            self._refuse(node, f"over axes {sorted(places)} alone")

    def _permute(self, node: Node, known: Mapping[Any, Any]) -> None:
        axes = node.args[1:] if len(node.args) != 2 else node.args[1]
        axes = tuple(axes) if isinstance(axes, list | tuple) else axes
        if axes not in known:
            self._refuse(node, f"to {axes}")
        node.args = (node.args[0], known[axes])

    def _leave(self, node: Node) -> None:
        """From here on the values are those of the 2D net: the map is averaged over time, and the call stays."""
        if node.target in ("view", "reshape"):
            sizes = node.args[1:] if len(node.args) != 2 else node.args[1]
            if not isinstance(sizes, list | tuple) or len(sizes) > 3:
                self._refuse(node, "to anything but vectors")
        with self.graph.inserting_before(node):
            mean = self.graph.call_function(calls.mean_over_time, (node.args[0],))
        node.args = (mean, *node.args[1:])

    # ------------------------------------------------------------ nodes

    def _on(self, kind: set[Node], node: Node) -> bool:
        return not kind.isdisjoint(node.all_input_nodes)

    def _on_map(self, node: Node) -> bool:
        return self._on(self.maps | self.lists, node)

    def _lift(self, node: Node) -> None:
        with self.graph.inserting_before(node):
            node.args = map_arg(node.args, self._lifted)
            node.kwargs = map_arg(node.kwargs, self._lifted)

    def _lifted(self, value: Any) -> Any:
        if not isinstance(value, Node) or value in self.maps or value in self.lists:
            return value
        return self.graph.call_function(calls.lift, (value,))

    def _turn_into(self, node: Node, function: Callable[..., Any]) -> None:
        node.op, node.target = "call_function", function

    def _refuse(self, node: Node, why: str = "") -> NoReturn:
        if node.op == "call_module":
            what = f"layer {node.target} ({type(self.net.get_submodule(str(node.target))).__name__})"
        else:
            inside = [path for path in node.meta.get("nn_module_stack", {}) if path]
            name = getattr(node.target, "__name__", node.target)
            what = f"call of {name}{f' in {inside[-1]}' if inside else ''}"
        raise UsageError(
            f"inflate: the {what}{' ' + why if why else ''} has no 3D version here; write it with other layers, or "
            "inflate the parts of the net around it"
        )
