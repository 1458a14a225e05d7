"""What an artifact's model.onnx may hold: the one file of an artifact that is a program.

An artifact may come from a stranger's repository, and ONNX Runtime does whatever the graph says. So the graph is read
here first, and refused unless `trainer.export.write_onnx` could have written it for this config.json. The tables list
what that writes, and few close equivalents that another version of PyTorch may write for the same network; what is not
listed is refused, so that nobody has to think of it. Needs numpy and onnx only.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, NodeProto, TensorProto, checker, helper, shape_inference

from model.artifact import ArtifactError

OPERATORS = {
    *("Conv", "Relu", "Add", "Sub", "Div", "Slice", "Pad", "ReduceMean", "Gemm"),  # torch 2.14 and 2.15 write these
    *("BatchNormalization", "GlobalAveragePool", "Flatten", "MatMul", "Mul", "Identity"),
}

ATTRIBUTES = {
    "group": (1, 1),
    "dilations": (1, 1),
    "kernel_shape": (1, 3),
    "pads": (0, 1),
    "strides": (1, 2),
    "auto_pad": b"NOTSET",
    "mode": b"constant",
    "axis": (1, 1),
    "keepdims": (0, 1),
    "noop_with_empty_axes": (0, 0),
    "training_mode": (0, 0),
    "transA": (0, 0),
    "transB": (0, 1),
    **dict.fromkeys(("alpha", "beta", "epsilon", "momentum"), (0, 1)),
}
"""The attributes that a node may have: least and greatest number, or the text. Shape inference alone would let pass a
group of 0, or a dilation of a billion with as much padding."""

VALUE_FIELDS = {
    AttributeProto.FLOAT: "f",
    AttributeProto.INT: "i",
    AttributeProto.STRING: "s",
    AttributeProto.INTS: "ints",
}
"""Where an attribute of a type has its value."""

INDICES = {
    ("Slice", 1): (0, 32),  # starts
    ("Slice", 2): (0, 2**63 - 1),  # ends; the greatest int64 says "to the end"
    ("Slice", 3): (-4, 3),  # axes
    ("Slice", 4): (1, 2),  # steps
    ("Pad", 1): (0, 64),  # a negative one would cut; sums of large ones overflow
    ("ReduceMean", 1): (-4, 3),  # axes
}
"""The whole numbers that a node may get as an input: operator and position of the input, least and greatest number."""

FIELDS = {
    "ModelProto": {"ir_version", "producer_name", "producer_version", "opset_import", "graph"},
    "OperatorSetIdProto": {"domain", "version"},
    "GraphProto": {"name", "node", "initializer", "input", "output", "value_info"},
    "NodeProto": {"name", "domain", "op_type", "input", "output", "attribute"},
    "AttributeProto": {"name", "type", "f", "i", "s", "ints"},
    "TensorProto": {"name", "dims", "data_type", "raw_data"},
    "ValueInfoProto": {"name", "type", "metadata_props"},
    "StringStringEntryProto": {"key", "value"},
    "TypeProto": {"tensor_type"},
    "Tensor": {"elem_type", "shape"},
    "TensorShapeProto": {"dim"},
    "Dimension": {"dim_value", "dim_param"},
}
"""The fields of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto that an export has. So there are no functions,
no training, no graph or tensor in an attribute, no sparse, quantized or external weights and no type but tensors."""

OPSETS = range(18, 29)
"""From 18 on ReduceMean gets its axes as an input, as INDICES has it; 28 is the newest that onnx 1.23 knows."""

WIDEST = 16 * 32 * 32
"""Numbers per image in the largest feature map, and so at most in what any node computes."""

SEGMENT = 10
"""Most nodes in a row after each of which more than one value is still needed. A block has at most ten nodes: Conv,
BatchNormalization and Relu twice, Slice twice, Pad, Add; after its last one value is needed, the block's output."""

BATCH = 2**31 - 1
"""The batch for which shapes are inferred; that allocates nothing. A prime above all other dimensions: whatever has
this size is the batch, and what grows with its square is seen, which with a batch of 1 looks harmless."""

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
IMAGES = ("images", FLOAT, (None, 3, 32, 32))
FEATURES = ("features", FLOAT, (None, 64, 8, 8))
"""Name, element type and shape, where None is a dimension without a number: the batch."""

Shape = tuple[int | None, ...]
Tensors = dict[str, TensorProto]


class _Refusal(Exception):
    """What is wrong with a file, in words that go after its name."""


def check_graph(path: Path, config: dict[str, Any], parameters: int) -> np.ndarray:
    """The weights of the graph's linear layer, float32 (classes, 64). Raises ArtifactError unless the file is a graph
    such as the trainer exports for the network of `config`.

    config        a checked config.json
    parameters    how many trained parameters this network has, 464,154 for the default one

    Each step works only with what an earlier one has bounded. A graph that passes names no other file, holds no code,
    and takes time and memory of the network's order. It need not be this network: its logits tell that.
    """
    try:
        model = _parse(_read(path, config, parameters), config["depth"])
        graph = model.graph
        _check_fields(model)
        _check_opset(model)
        _check_nodes(graph.node, config["depth"])
        _check_interface(graph, config["num_classes"])
        floats, indices = _check_initializers(graph.initializer, _most_floats(config, parameters))
        matrices = {tensor.name: _array(tensor) for tensor in graph.initializer if len(tensor.dims) == 2}
        _check_unknown_fields(model)
        _check_indices(graph.node, indices)
        _check_convolutions(graph.node, floats, config)
        _check_structure(model, floats, indices)
        _check_shapes(model, floats, indices, config["num_classes"])
        _check_flow(graph.node)
        return _class_weights(graph.node, matrices, config["num_classes"])
    except _Refusal as refusal:
        raise ArtifactError(f"{path} {refusal}; export the artifact again with `python -m trainer export`") from None


def _read(path: Path, config: dict[str, Any], parameters: int) -> bytes:
    """The content, if the file is as large as the network's weights at 4 bytes each: see _most_floats for the most; the
    least is without the two numbers per channel of BatchNormalization, which become one bias at most when folded."""
    least = 4 * (parameters - 2 * _channels(config))
    most = 4 * _most_floats(config, parameters) + _most_notes(config["depth"])
    try:
        size = path.stat().st_size
        if not least <= size <= most:
            raise _Refusal(f"has {size:,} bytes where config.json's network takes {least:,} to {most:,}")
        return path.read_bytes()
    except OSError as error:
        raise _Refusal(f"cannot be read ({type(error).__name__})") from None


def _most_floats(config: dict[str, Any], parameters: int) -> int:
    """The parameters; mean and variance per channel where BatchNormalization is not folded into the convolutions; the
    mean and std of the pixels (6) and as many constants as an exporter may fold (58 are left)."""
    return parameters + 2 * _channels(config) + 64


def _most_notes(depth: int) -> int:
    """Bytes besides the weights: names, shapes, nodes.

    Measured with torch 2.14: 6,305 at depth 8, 20,704 at 32, 68,254 at 110 with shortcut A; at most 52 fewer with B;
    the same with either stem; 20,604 in the bundled file. That is 610 per layer; BatchNormalization not folded would
    add about 300.
    This also bounds what parsing allocates: at worst 100 bytes per byte (measured with empty attributes).
    """
    return 8192 + 1024 * depth


def _kernels(config: dict[str, Any]) -> list[Shape]:
    """The weights of each convolution of `model.resnet.ResNet`: (out, in, height, width)."""
    stem, blocks = config["stem_kernel"], (config["depth"] - 2) // 6
    kernels = [(16, 3, stem, stem)] + 2 * blocks * [(16, 16, 3, 3)]
    for width in (32, 64):
        kernels += [(width, width // 2, 3, 3)] + (2 * blocks - 1) * [(width, width, 3, 3)]
        if config["shortcut"] == "B":
            kernels.append((width, width // 2, 1, 1))
    return kernels


def _channels(config: dict[str, Any]) -> int:
    """Outputs of all convolutions together. BatchNormalization has two parameters for each."""
    return sum(kernel[0] for kernel in _kernels(config))


def _parse(data: bytes, depth: int) -> onnx.ModelProto:
    """The model, if it has few bytes besides its weights: each pair of them may become an object of 200 bytes."""
    notes, most = 0, _most_notes(depth)
    for size in _notes(memoryview(data), (7, 5, 9)):  # ModelProto.graph, GraphProto.initializer, TensorProto.raw_data
        notes += size
        if notes > most:
            raise _Refusal(f"has more than {most:,} bytes besides its weights, the most at depth {depth}")
    try:
        return onnx.ModelProto.FromString(data)
    except Exception as error:  # protobuf has several, by implementation
        raise _Refusal(f"is not an ONNX model ({type(error).__name__})") from None


def _notes(message: memoryview, weights: tuple[int, ...]) -> Iterator[int]:
    """Bytes of each piece of a protobuf message, without the content of the fields at the path `weights`."""
    for number, head, content in _wire_fields(message):
        if number != weights[0]:
            yield head + len(content)
        else:
            yield head
            if weights[1:]:
                yield from _notes(content, weights[1:])


def _wire_fields(message: memoryview) -> Iterator[tuple[int, int, memoryview]]:
    """Number, bytes before the content, and content of each field: https://protobuf.dev/programming-guides/encoding."""
    end = 0
    while end < len(message):
        start = end
        key, begin = _varint(message, start)
        match key & 7:
            case 0:
                _, end = _varint(message, begin)
            case 1:
                end = begin + 8
            case 2:
                length, begin = _varint(message, begin)
                end = begin + length
            case 5:
                end = begin + 4
        if not begin <= end <= len(message):  # `end` has not moved for a kind that ONNX does not use
            raise _Refusal("is not an ONNX model (it is cut off or something else)")
        yield key >> 3, begin - start, message[begin:end]


def _varint(message: memoryview, start: int) -> tuple[int, int]:
    """The number at `start`, seven bits per byte and the lowest first, and where it ends."""
    number = 0
    for place, byte in enumerate(message[start : start + 10]):
        number |= (byte & 127) << 7 * place
        if byte < 128:
            return number, start + place + 1
    raise _Refusal("is not an ONNX model (it is cut off or something else)")


def _check_fields(message: Any) -> None:
    """Refuses a protobuf message that has, at any depth, a field which is not in FIELDS."""
    kind = message.DESCRIPTOR.name
    for field, value in message.ListFields():
        if field.name not in FIELDS[kind]:
            raise _Refusal(f"has the field {kind}.{field.name}; allowed are {_words(FIELDS[kind])}")
        if field.message_type is not None:
            for part in [value] if hasattr(value, "ListFields") else value:
                _check_fields(part)


def _check_unknown_fields(model: onnx.ModelProto) -> None:
    """Refuses what this ONNX skips, because ONNX Runtime has its own, perhaps newer one.

    Drops the weights, which were checked before, since measuring copies them: at depth 1202 that doubled the memory.
    """
    for tensor in model.graph.initializer:
        if tensor.data_type == FLOAT:
            tensor.ClearField("raw_data")
    size = model.ByteSize()
    model.DiscardUnknownFields()
    if model.ByteSize() != size:
        raise _Refusal(f"has fields that are not in ONNX {onnx.__version__}")


def _check_opset(model: onnx.ModelProto) -> None:
    found = [(opset.domain, opset.version) for opset in model.opset_import]
    if len(found) != 1 or found[0][0] != "" or found[0][1] not in OPSETS:
        raise _Refusal(
            f"imports the operator sets {_shown(found)}; allowed is one, the standard '' "
            f"in version {OPSETS.start} to {OPSETS.stop - 1}"
        )


def _check_nodes(nodes: Sequence[NodeProto], depth: int) -> None:
    """Depth 110 has 282 nodes with shortcut A, 278 with B: 2.5 per layer, 3.5 with unfolded BatchNormalization."""
    if len(nodes) > 4 * depth + 16:
        raise _Refusal(f"has {len(nodes):,} nodes; allowed at depth {depth} are {4 * depth + 16:,}")
    for node in nodes:
        if node.domain or node.op_type not in OPERATORS:
            operator = f"{node.domain}::{node.op_type}" if node.domain else node.op_type
            raise _Refusal(f"has a node {_shown(operator)}; allowed are {_words(OPERATORS)}")
        for attribute in node.attribute:
            _check_attribute(attribute)
        if len({attribute.name for attribute in node.attribute}) != len(node.attribute):  # which one would count?
            raise _Refusal(f"has a node {node.op_type} with the same attribute twice; once is allowed")


def _check_attribute(attribute: AttributeProto) -> None:
    """Its value must be where its type says: with one field more, readers differ in which they believe."""
    if attribute.name not in ATTRIBUTES:
        raise _Refusal(f"has an attribute {_shown(attribute.name)}; allowed are {_words(ATTRIBUTES)}")
    field, allowed = VALUE_FIELDS.get(attribute.type), ATTRIBUTES[attribute.name]
    if {found.name for found, _ in attribute.ListFields()} != {"name", "type", field}:
        raise _Refusal(f"has an attribute {attribute.name} with other values than one of its type; allowed is one")
    value = getattr(attribute, field)
    if isinstance(allowed, bytes):
        if value != allowed:
            raise _Refusal(f"has an attribute {attribute.name} {_shown(value)}; allowed is {allowed}")
    elif field == "s" or not _within(value if field == "ints" else [value], allowed):
        raise _Refusal(f"has an attribute {attribute.name} {_shown(value)}; allowed is {allowed[0]} to {allowed[1]}")


def _check_interface(graph: onnx.GraphProto, num_classes: int) -> None:
    """Float images in, float logits and features out, in this order and for any batch size."""
    logits = ("logits", FLOAT, (None, num_classes))
    for words, values, allowed in (("inputs", graph.input, [IMAGES]), ("outputs", graph.output, [logits, FEATURES])):
        found = [_declared(value) for value in values]
        if found != allowed:
            raise _Refusal(
                f"has the {words} {_shown(found)}; allowed are {allowed}, where 1 is float32, None the batch"
            )


def _declared(value: onnx.ValueInfoProto) -> tuple[str, int, Shape]:
    tensor = value.type.tensor_type
    shape = (dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim)
    return value.name, tensor.elem_type, tuple(shape)


def _check_initializers(tensors: Sequence[TensorProto], most_floats: int) -> tuple[dict[str, Shape], Tensors]:
    """By name: the shapes of the float32 ones, and the int64 ones themselves."""
    floats, indices, names = {}, {}, {IMAGES[0]}
    for tensor in tensors:
        if tensor.name in names:
            raise _Refusal(f"has two values named {_shown(tensor.name)}; allowed is one")
        names.add(tensor.name)
        array = _array(tensor)
        if tensor.data_type == INT64:
            indices[tensor.name] = tensor
        elif not np.isfinite(array).all():
            raise _Refusal(f"has NaN or infinity among the weights {_shown(tensor.name)}; allowed are finite numbers")
        else:
            floats[tensor.name] = array.shape
    total = sum(map(math.prod, floats.values()))
    if total > most_floats:
        raise _Refusal(f"has {total:,} weights; allowed for config.json's network are {most_floats:,}")
    return floats, indices


def _array(tensor: TensorProto) -> np.ndarray:
    """Not by onnx.numpy_helper.to_array, which believes what the tensor says of its shape and of other files."""
    name, shape, size = _shown(tensor.name), tuple(tensor.dims), len(tensor.raw_data)
    if tensor.data_type not in (FLOAT, INT64):
        raise _Refusal(f"has {name} of element type {tensor.data_type}; allowed are 1 (float32) and 7 (int64)")
    if tensor.data_type == INT64 and (len(shape) != 1 or shape[0] > 8):  # Pad takes two numbers for each of 4 axes
        raise _Refusal(f"has int64 numbers {name} of shape {_shown(shape)}; allowed are lists of 1 to 8")
    kind = np.dtype("<f4" if tensor.data_type == FLOAT else "<i8")
    if len(shape) > 4 or min(shape, default=1) < 1 or math.prod(shape) * kind.itemsize != size:
        raise _Refusal(
            f"has {name} of {size:,} bytes and shape {_shown(shape)}; allowed are up to 4 dimensions that make so many"
        )
    return np.frombuffer(tensor.raw_data, kind).reshape(shape)


def _check_indices(nodes: Sequence[NodeProto], indices: Tensors) -> None:
    """Whole numbers are read from the file, never computed, and used only as INDICES says."""
    for node in nodes:
        for position, name in enumerate(node.input):
            allowed, where = INDICES.get((node.op_type, position)), f"as input {position} of a node {node.op_type}"
            if (allowed is not None) != (name in indices):
                kind = "an int64 initializer" if allowed else "anything but that"
                raise _Refusal(f"has {_shown(name)} {where}; allowed is {kind}")
            numbers = _array(indices[name]).tolist() if allowed else []
            if allowed and not _within(numbers, allowed):
                raise _Refusal(f"has the numbers {numbers} {where}; allowed is {allowed[0]} to {allowed[1]}")


def _check_convolutions(nodes: Sequence[NodeProto], floats: dict[str, Shape], config: dict[str, Any]) -> None:
    """As many as the network has, with kernels of the same shapes: this bounds the time that the graph takes.

    Each has one bias per output channel: shape inference does not compare them, nor does every ONNX Runtime.
    """
    kernels = []
    for node in nodes:
        if node.op_type == "Conv":
            kernel, *bias = [floats.get(name, ()) for name in node.input[1:]] or [()]
            kernels.append(kernel)
            if bias and bias != [kernel[:1]]:
                raise _Refusal(f"has a convolution with kernel {kernel}, bias {_shown(bias)}; allowed is {kernel[:1]}")
    expected = _kernels(config)
    if sorted(kernels) != sorted(expected):
        wrong = [kernel for kernel in kernels if kernel not in expected] or kernels
        raise _Refusal(
            f"has {len(kernels)} convolutions, with kernels such as {wrong[:1]}; config.json's network has "
            f"{len(expected)}, with {sorted(set(expected))}"
        )


def _check_structure(model: onnx.ModelProto, floats: dict[str, Shape], indices: Tensors) -> None:
    """Each node has inputs and attributes that its operator allows; each value is made once and before it is used."""
    inputs = {IMAGES[0]: (BATCH, *IMAGES[2][1:]), **floats}
    outputs = [_info(output.name, [None] * len(_declared(output)[2])) for output in model.graph.output]
    try:
        checker.check_model(_without_weights(model, model.graph.node, inputs, outputs, indices.values()))
    except Exception as error:  # its own type has no other base
        raise _Refusal(f"is not a valid ONNX graph ({type(error).__name__})") from None


def _check_shapes(model: onnx.ModelProto, floats: dict[str, Shape], indices: Tensors, num_classes: int) -> None:
    """Each node computes numbers for each image, at most WIDEST: it neither mixes images nor squares the batch.

    Node by node, so that shape inference gets only what was found good: given a size below zero, as a convolution
    without padding makes of a 1x1 map, onnx 1.23 ends the process when it comes to a Slice.
    """
    shapes = {IMAGES[0]: (BATCH, *IMAGES[2][1:]), **floats}
    for node in model.graph.node:
        found = _infer(model, node, shapes, indices)
        for name in node.output:
            shape = found.get(name, ())
            good = shape[:1] == (BATCH,) and all(size and size > 0 for size in shape[1:])
            if not good or math.prod(shape[1:]) > WIDEST:
                raise _Refusal(
                    f"has a node {node.op_type} that computes {_shown_shape(shape)}; allowed is (batch, ...) with 1 "
                    f"to {WIDEST:,} numbers per image"
                )
            shapes[name] = shape
    computed, allowed = [shapes.get(name) for name in ("logits", "features")], [(BATCH, num_classes), (BATCH, 64, 8, 8)]
    if computed != allowed:
        raise _Refusal(f"computes logits and features of {_shown_shape(computed)}; allowed are {_shown_shape(allowed)}")


def _infer(model: onnx.ModelProto, node: NodeProto, shapes: dict[str, Shape], indices: Tensors) -> dict[str, Shape]:
    """The shapes of what `node` makes, where they can be told, from those of what it gets."""
    inputs = {name: shapes[name] for name in node.input if name in shapes}
    numbers = [indices[name] for name in set(node.input) if name in indices]
    try:
        single = _without_weights(model, [node], inputs, [], numbers)
        found = shape_inference.infer_shapes(single, check_type=True, strict_mode=True).graph.value_info
    except Exception as error:  # its own type has no other base
        raise _Refusal(f"has a node {node.op_type} that does not fit what it gets ({type(error).__name__})") from None
    return {name: shape for name, _, shape in map(_declared, found)}


def _without_weights(
    model: onnx.ModelProto,
    nodes: Iterable[NodeProto],
    inputs: dict[str, Shape],
    outputs: Iterable[onnx.ValueInfoProto],
    indices: Iterable[TensorProto],
) -> onnx.ModelProto:
    """A model of `nodes` that gets the floats as inputs: no shape depends on them, so nothing large is copied.

    It has nothing of the shapes that the file declares; ONNX Runtime does not rely on them either where they differ.
    """
    values = [_info(name, shape) for name, shape in inputs.items()]
    graph = helper.make_graph(nodes, "graph", values, outputs, indices)
    return helper.make_model(graph, ir_version=model.ir_version, opset_imports=model.opset_import)


def _info(name: str, shape: Sequence[int | None]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, FLOAT, shape)


def _check_flow(nodes: Sequence[NodeProto]) -> None:
    """Every SEGMENT nodes the graph narrows to one value, as it does after each block; no value is computed in vain.

    Whatever is computed before such a place is computed and freed before anything after it, in any order of the nodes
    that ONNX Runtime may choose. So it holds no more than SEGMENT values at a time.
    """
    last_use = {name: place for place, node in enumerate(nodes) for name in node.input}
    last_use |= dict.fromkeys(("logits", "features"), len(nodes))
    needed, wide = {IMAGES[0]}, 0
    for place, node in enumerate(nodes):
        if not last_use.keys() >= set(node.output):
            raise _Refusal(
                f"has a node {node.op_type} whose output nothing uses; allowed are nodes that lead to logits"
            )
        needed = {name for name in needed | set(node.output) if last_use.get(name, -1) > place}
        wide = wide + 1 if len(needed) > 1 else 0
        if wide > SEGMENT:
            raise _Refusal(
                f"needs several values at once for over {SEGMENT} nodes; allowed are {SEGMENT}, as in a block"
            )


def _class_weights(nodes: Sequence[NodeProto], matrices: dict[str, np.ndarray], num_classes: int) -> np.ndarray:
    """The matrix that `logits` are the product with: of a Gemm, or of a MatMul to which an Add adds the bias."""
    makers = {name: node for node in nodes for name in node.output}
    name = "logits"
    while (node := makers.get(name)) is not None and node.op_type in ("Identity", "Add"):  # ends: there are no cycles
        name = next((name for name in node.input if name in makers), "")
    if node is None or node.op_type not in ("Gemm", "MatMul"):
        raise _Refusal(f"computes logits by {_shown(node and node.op_type)}; allowed is a linear layer, Gemm or MatMul")
    weights = matrices.get(node.input[1], np.empty((0, 0), np.float32))
    if not any(attribute.name == "transB" and attribute.i for attribute in node.attribute):
        weights = weights.T
    if weights.shape != (num_classes, FEATURES[2][1]):
        raise _Refusal(f"has a linear layer of {_shown(weights.shape)}; allowed is {(num_classes, FEATURES[2][1])}")
    return np.ascontiguousarray(weights)


def _within(numbers: Sequence[float], allowed: tuple[int, int]) -> bool:
    return all(allowed[0] <= number <= allowed[1] for number in numbers)  # never for NaN


def _words(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


def _shown_shape(shape: Any) -> str:
    return _shown(shape).replace(str(BATCH), "batch")


def _shown(value: Any) -> str:
    """For a message: on one line and short, though the file's author chose it. repr escapes what is not printable."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}..."
