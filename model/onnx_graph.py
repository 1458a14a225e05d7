"""The network as an ONNX graph, built from its architecture and its weights. No graph is ever loaded: the one that
serves comes from here, and so does the model.onnx that an artifact holds for other tools.

Needs numpy and onnx. https://onnx.ai/onnx/operators/ describes the operators.
"""

from collections.abc import Mapping

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

from model.architecture import MAP_STRIDE, WIDTHS, Architecture, Block

IR_VERSION = 10
"""Of the file format: the newest that ONNX Runtime 1.20 reads. onnx's own default moves with each of its releases."""

OPSET = 20
"""Of the operators. ONNX Runtime 1.20 reads up to 21."""

EPSILON = 1e-5
"""What torch.nn.BatchNorm2d adds to the variance."""


def build_graph(architecture: Architecture, weights: Mapping[str, np.ndarray], image_size: int) -> bytes:
    """A serialized ONNX model: `images` (N, 3, S, S), float32 in [0, 1] -> `logits` (N, classes) and `features`
    (N, 64, S/4, S/4), for any N.

    weights      as `model.weights.read_weights` gives them
    image_size   S
    """
    graph = _Graph(weights)
    x = graph.add("Div", [graph.add("Sub", ["images", graph.constant("mean")]), graph.constant("std")])
    x = graph.add("Relu", [graph.convolution(x, "conv", "bn")])
    *blocks, last = architecture.blocks()
    for block in blocks:
        x = _residual_block(graph, x, block, architecture.shortcut)
    features = _residual_block(graph, x, last, architecture.shortcut, "features")
    pooled = graph.add("Flatten", [graph.add("GlobalAveragePool", [features])])
    graph.add("Gemm", [pooled, graph.constant("fc.weight"), graph.constant("fc.bias")], "logits", transB=1)

    side = image_size // MAP_STRIDE
    images = _values("images", 3, image_size, image_size)
    outputs = [_values("logits", architecture.num_classes), _values("features", WIDTHS[-1], side, side)]
    model = helper.make_model(
        helper.make_graph(graph.nodes, f"ResNet-{architecture.depth}", [images], outputs, graph.tensors),
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET)],
    )
    return model.SerializeToString()


class _Graph:
    """Nodes and tensors, in the order of computation. Each value is named for the node that computes it."""

    def __init__(self, weights: Mapping[str, np.ndarray]):
        self.weights = weights
        self.nodes: list[NodeProto] = []
        self.tensors: list[TensorProto] = []

    def add(self, operator: str, inputs: list[str], output: str = "", **attributes: object) -> str:
        """Appends a node; returns the name of its output."""
        output = output or f"{operator.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def constant(self, name: str, value: np.ndarray | None = None) -> str:
        """Appends a tensor, the weight of that name if no value is given; returns its name."""
        self.tensors.append(numpy_helper.from_array(self.weights[name] if value is None else value, name))
        return name

    def convolution(self, x: str, convolution: str, normalization: str, stride: int = 1) -> str:
        """A convolution, "same" padding, with the batch normalization after it folded into its kernel and bias.

        In float64: folded in float32, deep networks lose digits.
        """
        scale, offset, mean, variance = (
            self.weights[f"{normalization}.{name}"].astype(np.float64)
            for name in ("weight", "bias", "running_mean", "running_var")
        )
        kernel = self.weights[f"{convolution}.weight"]
        with np.errstate(all="ignore"):  # a negative variance makes NaN, which no expected logits agree with
            scale = scale / np.sqrt(variance + EPSILON)
            folded = (kernel * scale[:, None, None, None]).astype(np.float32)  # (out, in, height, width)
            bias = (offset - mean * scale).astype(np.float32)
        size = kernel.shape[-1]
        tensors = [self.constant(f"{convolution}.weight", folded), self.constant(f"{convolution}.bias", bias)]
        return self.add("Conv", [x, *tensors], kernel_shape=[size] * 2, strides=[stride] * 2, pads=[size // 2] * 4)


def _residual_block(graph: _Graph, x: str, block: Block, shortcut: str, output: str = "") -> str:
    stride = 2 if block.widens else 1
    inner = graph.add("Relu", [graph.convolution(x, f"{block.name}.conv1", f"{block.name}.bn1", stride)])
    inner = graph.convolution(inner, f"{block.name}.conv2", f"{block.name}.bn2")
    if block.widens:
        x = (_padded if shortcut == "A" else _projected)(graph, x, block)
    return graph.add("Relu", [graph.add("Add", [inner, x])], output)


def _padded(graph: _Graph, x: str, block: Block) -> str:
    """Shortcut A: every second pixel, new channels filled with zeros."""
    name = f"{block.name}.shortcut"
    slices = {"starts": [0, 0], "ends": [2**31 - 1] * 2, "axes": [2, 3], "steps": [2, 2]}
    cut = [graph.constant(f"{name}.{key}", np.array(value, np.int64)) for key, value in slices.items()]
    before_and_after = [0] * 5 + [block.out_channels - block.in_channels] + [0] * 2  # of N, C, H, W each
    pads = graph.constant(f"{name}.pads", np.array(before_and_after, np.int64))
    return graph.add("Pad", [graph.add("Slice", [x, *cut]), pads])


def _projected(graph: _Graph, x: str, block: Block) -> str:
    """Shortcut B: a 1x1 convolution with stride 2."""
    return graph.convolution(x, f"{block.name}.shortcut.0", f"{block.name}.shortcut.1", stride=2)


def _values(name: str, *shape: int) -> object:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *shape])
