"""check_graph lets an export pass and refuses whatever else claims to be one. No case runs in ONNX Runtime."""

import json
import os
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from safetensors.numpy import load_file

from model import artifact
from model.artifact import ArtifactError
from model.graph import _kernels, check_graph
from model.hub import BUNDLED
from model.resnet import ResNet
from trainer.export import write_onnx


@dataclass(frozen=True)
class Export:
    path: Path
    config: dict[str, Any]
    parameters: int


def export(folder: Path, depth: int, stem_kernel: int, shortcut: str, num_classes: int = 10) -> Export:
    """The file of a network as if trained: with statistics of its own in each BatchNormalization."""
    torch.manual_seed(0)
    config = {"depth": depth, "stem_kernel": stem_kernel, "shortcut": shortcut, "num_classes": num_classes}
    network = ResNet(**config).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_()
    write_onnx(network, folder / "model.onnx")
    return Export(folder / "model.onnx", config, sum(p.numel() for p in network.parameters()))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Export:
    return export(tmp_path_factory.mktemp("small"), 8, 3, "A")


@pytest.fixture
def model(small: Export) -> ModelProto:
    return onnx.load(small.path)


@pytest.fixture
def refusal(small: Export, tmp_path: Path) -> Callable[[bytes], str]:
    """What check_graph says of a file with this content in place of the depth-8 graph, without path and hint."""

    def refuse(content: bytes) -> str:
        path = tmp_path / "model.onnx"
        path.write_bytes(content)
        with pytest.raises(ArtifactError) as caught:
            check_graph(path, small.config, small.parameters)
        message = str(caught.value)
        start, end = f"{path} ", "; export the artifact again with `python -m trainer export`"
        assert message.startswith(start) and message.endswith(end) and message.isprintable(), message
        return message[len(start) : -len(end)]

    return refuse


# What passes


def test_the_bundled_graph_passes():
    config = json.loads((BUNDLED / artifact.CONFIG).read_text())
    weights = check_graph(BUNDLED / artifact.GRAPH, config, 464154)
    assert np.array_equal(weights, load_file(BUNDLED / artifact.WEIGHTS)["fc.weight"])


def test_the_graph_that_the_table_of_refusals_starts_from_passes(small):
    check_graph(small.path, small.config, small.parameters)


@pytest.fixture(
    scope="module",
    params=[(8, 1, "B", 10), (14, 1, "A", 10), (14, 3, "B", 100)],
    ids=lambda p: f"depth{p[0]}-stem{p[1]}-{p[2]}-{p[3]}classes",
)
def other_export(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Export:
    return export(tmp_path_factory.mktemp("other"), *request.param)


def test_an_export_of_another_architecture_passes(other_export):
    check_graph(other_export.path, other_export.config, other_export.parameters)


def test_a_graph_of_another_architecture_is_refused(small, other_export):
    with pytest.raises(ArtifactError):
        check_graph(other_export.path, small.config, small.parameters)
    with pytest.raises(ArtifactError):
        check_graph(small.path, other_export.config, other_export.parameters)


@pytest.mark.parametrize("shortcut", ["A", "B"])
@pytest.mark.parametrize("stem_kernel", [1, 3])
@pytest.mark.parametrize("depth", [8, 14, 32, 110])
def test_the_kernels_are_those_of_the_torch_network(depth, stem_kernel, shortcut):
    config = {"depth": depth, "stem_kernel": stem_kernel, "shortcut": shortcut}
    with torch.device("meta"):
        found = [tuple(p.shape) for p in ResNet(**config).parameters() if p.ndim == 4]
    assert sorted(_kernels(config)) == sorted(found)


def test_the_close_equivalents_pass(model, small, tmp_path):
    """Each operator of the second line of OPERATORS, with BatchNormalization after every convolution."""
    for number in range(7):
        conv = of(model, "Conv")[number]
        channels = tensor(model, conv.input[1]).dims[0]
        model.graph.initializer.remove(tensor(model, conv.input.pop()))
        statistics = [
            add(model, f"{conv.name}.{name}", np.ones(channels)) for name in ("scale", "shift", "mean", "var")
        ]
        insert(model, conv, "BatchNormalization", *statistics, epsilon=1e-5, momentum=0.9, training_mode=0)
    replace(model, "Div", [helper.make_node("Mul", list(one(model, "Div").input), ["div"])])
    pool = one(model, "ReduceMean")
    replace(
        model,
        "ReduceMean",
        [
            helper.make_node("GlobalAveragePool", [pool.input[0]], ["pooled"]),
            helper.make_node("Flatten", ["pooled"], ["flat"], axis=1),
            helper.make_node("Identity", ["flat"], [pool.output[0]]),
        ],
    )
    _, weight, bias = one(model, "Gemm").input
    expected = numpy_helper.to_array(tensor(model, weight))
    transposed = add(model, "transposed", expected.T)
    replace(
        model,
        "Gemm",
        [
            helper.make_node("MatMul", [pool.output[0], transposed], ["product"]),
            helper.make_node("Add", ["product", bias], ["logits"]),
        ],
    )
    model.graph.initializer.remove(tensor(model, weight))
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    assert np.array_equal(check_graph(path, small.config, small.parameters), expected)


@pytest.mark.parametrize("classes", [2, 64, 100])
@pytest.mark.parametrize("transposed", [False, True])
def test_the_weights_of_the_linear_layer_are_found_either_way_round(tmp_path, classes, transposed):
    found = export(tmp_path, 8, 3, "A", classes)
    model = onnx.load(found.path)
    gemm = one(model, "Gemm")
    expected = numpy_helper.to_array(tensor(model, gemm.input[1]))
    if transposed:
        fill(model, gemm.input[1], expected.T)
        set_attribute(gemm, "transB", 0)
        onnx.save(model, found.path)
    weights = check_graph(found.path, found.config, found.parameters)
    assert weights.dtype == np.float32 and weights.shape == (classes, 64) and np.array_equal(weights, expected)


# Tools for the table of refusals


def of(model: ModelProto, operator: str) -> list[NodeProto]:
    return [node for node in model.graph.node if node.op_type == operator]


def one(model: ModelProto, operator: str) -> NodeProto:
    return of(model, operator)[0]


def tensor(model: ModelProto, name: str) -> TensorProto:
    return next(tensor for tensor in model.graph.initializer if tensor.name == name)


def kernel(model: ModelProto) -> TensorProto:
    """The weights of the first convolution, 16 x 3 x 3 x 3."""
    return tensor(model, one(model, "Conv").input[1])


def add(model: ModelProto, name: str, array: Any, kind: Any = np.float32) -> str:
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(array, kind), name))
    return name


def fill(model: ModelProto, name: str, array: Any, kind: Any = np.float32) -> None:
    tensor(model, name).CopyFrom(numpy_helper.from_array(np.asarray(array, kind), name))


def attribute(node: NodeProto, name: str) -> onnx.AttributeProto:
    return next(attribute for attribute in node.attribute if attribute.name == name)


def set_attribute(node: NodeProto, name: str, value: Any) -> None:
    attribute(node, name).CopyFrom(helper.make_attribute(name, value))


def place(model: ModelProto, node: NodeProto) -> int:
    return next(i for i, other in enumerate(model.graph.node) if other.output == node.output)


def replace(model: ModelProto, operator: str, nodes: list[NodeProto]) -> None:
    """`nodes` in place of the first node of this kind; the last of them makes what that made."""
    old = one(model, operator)
    nodes[-1].output[0] = old.output[0]
    at = place(model, old)
    rest = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*rest[:at], *nodes, *rest[at + 1 :]])


def insert(model: ModelProto, after: NodeProto, operator: str, *inputs: str, **attributes: Any) -> None:
    """A node that takes what `after` makes, and `inputs`, and makes it in its place."""
    at, made = place(model, after) + 1, after.output[0]
    model.graph.node[at - 1].output[0] = f"{made}.{operator}"
    nodes = list(model.graph.node)
    del model.graph.node[:]
    new = helper.make_node(operator, [f"{made}.{operator}", *inputs], [made], **attributes)
    model.graph.node.extend([*nodes[:at], new, *nodes[at:]])


HOSTILE: dict[str, tuple[Callable[[ModelProto], bytes | None], str]] = {}


def hostile(words: str) -> Callable[[Callable[[ModelProto], bytes | None]], None]:
    """A case of the table: changes the model or returns other bytes; `words` are in the message."""

    def register(change: Callable[[ModelProto], bytes | None]) -> None:
        name = change.__name__.replace("_", " ")
        assert name not in HOSTILE
        HOSTILE[name] = (change, words)

    return register


# The file


@hostile("has 0 bytes where config.json's network takes 299,240 to 319,720")
def empty_file(model):
    return b""


@hostile("has 135 bytes where")
def lfs_pointer(model):
    digest = "9d202d31bb7267ae9b98dbdfed73aef911542ea9ecc0cf9c180cb9170548ffad"
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{digest}\nsize 1872700000\n".encode()


@hostile("bytes where")
def html_page(model):
    return b"<!DOCTYPE html><html><body>404: not found</body></html>"


@hostile("bytes where")
def half_a_file(model):
    return model.SerializeToString()[:150_000]


@hostile("bytes where")
def weights_twice_the_size(model):
    add(model, "more", np.ones(75_000))


@hostile("is not an ONNX model (it is cut off or something else)")
def truncated_at_the_end(model):
    return model.SerializeToString()[:-1000]


@hostile("is not an ONNX model (it is cut off or something else)")
def ends_inside_a_number(model):
    return model.SerializeToString() + b"\x80"


@hostile("is not an ONNX model (it is cut off or something else)")
def number_of_eleven_bytes(model):
    return model.SerializeToString() + b"\x08" + 10 * b"\x80" + b"\x08\x01"


@hostile("is not an ONNX model (it is cut off or something else)")
def wire_format_of_another_kind(model):
    return model.SerializeToString() + b"\x0b\x0c"  # a group, empty


@hostile("is not an ONNX model (it is cut off or something else)")
def pickle_of_the_right_size(model):
    return pickle.dumps({"weight": bytes(305_000)})


@hostile("is not an ONNX model (DecodeError)")
def node_that_is_no_message(model):
    return model.SerializeToString() + b"\x3a\x03\x0a\x01\x0f"  # graph {node {a field of kind 7, which there is not}}


@hostile("has fields that are not in ONNX")
def field_that_onnx_does_not_know(model):
    return model.SerializeToString() + b"\xba\x3e\x01x"  # field 999


@hostile("has more than 16,384 bytes besides its weights, the most at depth 8")
def name_in_place_of_weights(model):
    largest = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    model.graph.node[0].name = "x" * len(largest.raw_data)
    model.graph.initializer.remove(largest)


@hostile("has more than 16,384 bytes besides its weights, the most at depth 8")
def thousands_of_empty_nodes(model):
    largest = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    model.graph.initializer.remove(largest)
    return model.SerializeToString() + 18 * (b"\x3a\xc0\x3e" + 4000 * b"\x0a\x00")  # graph {node {} node {} ...}


@hostile("has more than 16,384 bytes besides its weights, the most at depth 8")
def thousands_of_empty_initializers(model):
    largest = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    model.graph.initializer.remove(largest)
    return model.SerializeToString() + 18 * (b"\x3a\xc0\x3e" + 4000 * b"\x2a\x00")  # graph {initializer {} ...}


# Parts of ONNX that no export uses


@hostile("the field ModelProto.functions")
def function_in_the_model(model):
    opset = helper.make_opsetid("", 20)
    body = [helper.make_node("Relu", ["x"], ["y"])]
    model.functions.append(helper.make_function("own", "Own", ["x"], ["y"], body, [opset]))


@hostile("the field ModelProto.training_info")
def training_graph(model):
    model.training_info.add().initialization.name = "training"


@hostile("the field ModelProto.metadata_props")
def notes_for_the_runtime(model):
    helper.set_model_props(model, {"ort_config": "{}"})


@hostile("the field GraphProto.sparse_initializer")
def sparse_weights(model):
    sparse = model.graph.sparse_initializer.add()
    sparse.values.CopyFrom(numpy_helper.from_array(np.ones(1, np.float32), "sparse"))
    sparse.indices.CopyFrom(numpy_helper.from_array(np.zeros(1, np.int64), "sparse_indices"))
    sparse.dims[:] = [10**9]


@hostile("the field GraphProto.quantization_annotation")
def quantization(model):
    model.graph.quantization_annotation.add().tensor_name = "images"


@hostile("the field AttributeProto.g")
def branch_with_a_graph_inside(model):
    inside = helper.make_graph([], "inside", [], [])
    model.graph.node.append(helper.make_node("If", ["images"], ["y"], then_branch=inside, else_branch=inside))


@hostile("the field AttributeProto.graphs")
def list_of_graphs_in_an_attribute(model):
    model.graph.node[0].attribute.append(helper.make_attribute("x", [helper.make_graph([], "inside", [], [])]))


@hostile("the field AttributeProto.t")
def constant_with_a_tensor(model):
    value = numpy_helper.from_array(np.ones(1, np.float32))
    model.graph.node.insert(0, helper.make_node("Constant", [], ["y"], value=value))


@hostile("the field AttributeProto.tp")
def type_in_an_attribute(model):
    kind = helper.make_tensor_type_proto(TensorProto.FLOAT, [1])
    model.graph.node[0].attribute.append(helper.make_attribute("x", kind))


@hostile("the field TensorProto.external_data")
def weights_in_another_file(model):
    onnx.external_data_helper.set_external_data(kernel(model), "/etc/hostname", 0, 1728)


@hostile("the field TensorProto.data_location")
def weights_said_to_be_elsewhere(model):
    kernel(model).data_location = TensorProto.EXTERNAL


@hostile("the field TensorProto.float_data")
def weights_not_raw(model):
    weights = kernel(model)
    weights.float_data.extend(numpy_helper.to_array(weights).ravel().tolist())
    weights.ClearField("raw_data")


@hostile("the field TypeProto.sequence_type")
def sequence_of_images(model):
    images = helper.make_tensor_type_proto(TensorProto.FLOAT, ["batch", 3, 32, 32])
    model.graph.input[0].type.CopyFrom(helper.make_sequence_type_proto(images))


# Operators and their attributes


@hostile("imports the operator sets [('', 20), ('com.microsoft', 1)]; allowed is one, the standard ''")
def operators_of_another_domain(model):
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))


@hostile("imports the operator sets [('ai.onnx.ml', 20)]")
def operators_of_another_domain_only(model):
    model.opset_import[0].domain = "ai.onnx.ml"


@hostile("imports the operator sets [('', 99)]; allowed is one, the standard '' in version 18 to 28")
def opset_too_new(model):
    model.opset_import[0].version = 99


@hostile("imports the operator sets [('', 13)]")
def opset_too_old(model):
    model.opset_import[0].version = 13


@hostile("imports the operator sets []")
def no_opset(model):
    del model.opset_import[:]


@hostile("has a node 'com.microsoft::FusedConv'; allowed are Add, BatchNormalization, Conv, ")
def node_of_a_custom_domain(model):
    one(model, "Conv").op_type = "FusedConv"
    one(model, "FusedConv").domain = "com.microsoft"


@hostile("has a node 'com.example::Relu'")
def standard_name_in_a_custom_domain(model):
    one(model, "Relu").domain = "com.example"


@hostile("has a node 'Backdoor'")
def custom_operator(model):
    one(model, "Relu").op_type = "Backdoor"


@hostile("has a node 'Tile'")
def standard_operator_that_no_export_has(model):
    one(model, "Relu").op_type = "Tile"


@hostile("has 49 nodes; allowed at depth 8 are 48")
def many_nodes(model):
    while len(model.graph.node) < 49:
        insert(model, one(model, "Relu"), "Identity")


@hostile("has an attribute 'activation'; allowed are alpha, auto_pad, ")
def attribute_that_no_export_has(model):
    one(model, "Conv").attribute.append(helper.make_attribute("activation", "Relu"))


@hostile("has an attribute pads [1000000000, 1000000000, 1000000000, 1000000000]; allowed is 0 to 1")
def convolution_padded_by_a_billion(model):
    set_attribute(one(model, "Conv"), "pads", [10**9] * 4)


@hostile("has an attribute dilations [1000000000, 1000000000]; allowed is 1 to 1")
def dilated_by_a_billion(model):
    set_attribute(one(model, "Conv"), "dilations", [10**9] * 2)


@hostile("has an attribute strides [0, 0]; allowed is 1 to 2")
def strides_of_zero(model):
    set_attribute(one(model, "Conv"), "strides", [0, 0])


@hostile("has an attribute group 0; allowed is 1 to 1")
def no_groups(model):
    set_attribute(one(model, "Conv"), "group", 0)


@hostile("has an attribute alpha nan; allowed is 0 to 1")
def factor_that_is_no_number(model):
    set_attribute(one(model, "Gemm"), "alpha", float("nan"))


@hostile("has an attribute auto_pad b'SAME_UPPER'; allowed is b'NOTSET'")
def padding_worked_out_by_the_runtime(model):
    set_attribute(one(model, "Conv"), "auto_pad", "SAME_UPPER")


@hostile("has an attribute mode b'reflect'; allowed is b'constant'")
def padding_by_reflection(model):
    set_attribute(one(model, "Pad"), "mode", "reflect")


@hostile("has an attribute group b'1'; allowed is 1 to 1")
def text_for_a_number(model):
    set_attribute(one(model, "Conv"), "group", "1")


@hostile("has an attribute group with other values than one of its type")
def attribute_with_two_values(model):
    attribute(one(model, "Conv"), "group").ints.append(64)


@hostile("has an attribute group with other values than one of its type")
def attribute_without_a_value(model):
    attribute(one(model, "Conv"), "group").ClearField("i")


@hostile("has a node Conv with the same attribute twice; once is allowed")
def attribute_twice(model):
    one(model, "Conv").attribute.append(attribute(one(model, "Conv"), "strides"))


# Inputs and outputs


@hostile("has the inputs [('images', 1, (None, 3, 32, 32)), ('more', 1, (1,))]; allowed are [('images', 1, (None, 3, ")
def extra_input(model):
    model.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, [1]))


@hostile("has the inputs [('images', 1, (1, 3, 32, 32))]")
def batch_of_one_only(model):
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1


@hostile("has the inputs [('images', 1, (None, 3, 64, 64))]")
def larger_images(model):
    for dim in model.graph.input[0].type.tensor_type.shape.dim[2:]:
        dim.dim_value = 64


@hostile("has the inputs [('images', 11, (None, 3, 32, 32))]")
def images_of_doubles(model):
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.DOUBLE


@hostile("has the outputs [('scores', 1, (None, 10)), ('features', 1, (None, 64, 8, 8))]")
def renamed_output(model):
    model.graph.output[0].name = "scores"


@hostile("has the outputs [('features', 1, (None, 64, 8, 8)), ('logits', 1, (None, 10))]")
def outputs_in_another_order(model):
    outputs = list(model.graph.output)
    del model.graph.output[:]
    model.graph.output.extend(reversed(outputs))


@hostile("has the outputs [('logits', 1, (None, 1000))")
def other_number_of_classes_declared(model):
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 1000


# Initializers


@hostile("of element type 10; allowed are 1 (float32) and 7 (int64)")
def weights_in_half_precision(model):
    fill(model, kernel(model).name, numpy_helper.to_array(kernel(model)), np.float16)


@hostile("of element type 11; allowed are 1 (float32) and 7 (int64)")
def weights_in_double_precision(model):
    fill(model, kernel(model).name, numpy_helper.to_array(kernel(model)), np.float64)


@hostile("has NaN or infinity among the weights")
def weight_that_is_no_number(model):
    weights = numpy_helper.to_array(kernel(model)).copy()
    weights[3, 1, 2, 2] = np.nan
    fill(model, kernel(model).name, weights)


@hostile("has NaN or infinity among the weights")
def infinite_weight(model):
    weights = numpy_helper.to_array(kernel(model)).copy()
    weights[0, 0, 0, 0] = -np.inf
    fill(model, kernel(model).name, weights)


@hostile("has 76,056 weights; allowed for config.json's network are 75,834")
def more_weights_than_the_network_has(model):
    add(model, "more", np.ones(1000))


@hostile("has two values named 'images'; allowed is one")
def initializer_for_the_images(model):
    add(model, "images", np.ones((1, 3, 1, 1)))


@hostile("allowed is one")
def initializer_twice(model):
    model.graph.initializer.append(kernel(model))


@hostile("of 1,728 bytes and shape (16, 3, 3, 300); allowed are up to 4 dimensions that make so many")
def weights_that_claim_to_be_more(model):
    kernel(model).dims[3] = 300


@hostile("of 1,728 bytes and shape (-16, -3, 3, 3)")
def negative_shape(model):
    kernel(model).dims[:] = [-16, -3, 3, 3]


@hostile("of 1,728 bytes and shape (4, 4, 3, 3, 3)")
def five_dimensions(model):
    kernel(model).dims[:] = [4, 4, 3, 3, 3]


@hostile("of shape (9,); allowed are lists of 1 to 8")
def long_list_of_whole_numbers(model):
    fill(model, one(model, "Slice").input[1], [0] * 9, np.int64)


@hostile("of shape (1, 1); allowed are lists of 1 to 8")
def table_of_whole_numbers(model):
    fill(model, one(model, "Slice").input[1], [[0]], np.int64)


# What the nodes get


@hostile("has the numbers [0, 0, 0, 0, 0, 1000000000, 0, 0] as input 1 of a node Pad; allowed is 0 to 64")
def padded_by_a_billion(model):
    fill(model, one(model, "Pad").input[1], [0, 0, 0, 0, 0, 10**9, 0, 0], np.int64)


@hostile("as input 1 of a node Pad; allowed is 0 to 64")
def padded_by_sums_that_overflow(model):
    fill(model, one(model, "Pad").input[1], [0, 2**62, 0, 0, 0, 2**62, 0, 0], np.int64)


@hostile("as input 1 of a node Pad; allowed is 0 to 64")
def padded_by_less_than_nothing(model):
    fill(model, one(model, "Pad").input[1], [0, 0, 0, 0, 0, -8, 0, 0], np.int64)


@hostile("has the numbers [0] as input 4 of a node Slice; allowed is 1 to 2")
def steps_of_zero(model):
    fill(model, one(model, "Slice").input[4], [0], np.int64)


@hostile("has the numbers [7, 9] as input 1 of a node ReduceMean; allowed is -4 to 3")
def mean_over_axes_that_are_not_there(model):
    fill(model, one(model, "ReduceMean").input[1], [7, 9], np.int64)


@hostile("as input 1 of a node Add; allowed is anything but that")
def whole_numbers_in_a_sum(model):
    one(model, "Add").input[1] = add(model, "one", [1], np.int64)


@hostile("has 'images' as input 1 of a node Pad; allowed is an int64 initializer")
def padded_by_what_the_images_say(model):
    one(model, "Pad").input[1] = "images"


# The network


@hostile("has 8 convolutions, with kernels such as [(16, 3, 3, 3)]; config.json's network has 7, with [(16, 3, 3, 3), ")
def one_convolution_more(model):
    last = of(model, "Conv")[-1]
    insert(model, last, "Conv", last.input[1], pads=[1, 1, 1, 1])


@hostile("has 7 convolutions, with kernels such as [(1, 3, 12, 12)]; config.json's network has 7, with")
def kernel_of_another_shape(model):
    kernel(model).dims[:] = [1, 3, 12, 12]
    one(model, "Conv").input[2] = add(model, "bias", [0])


@hostile("has 7 convolutions, with kernels such as [()]")
def kernel_that_is_computed(model):
    insert(model, one(model, "Relu"), "Conv", one(model, "Relu").output[0])
    of(model, "Conv")[2].op_type = "Relu"


@hostile("has 7 convolutions, with kernels such as [()]")
def convolution_without_a_kernel(model):
    del one(model, "Conv").input[1:]


@hostile("has a convolution with kernel (16, 3, 3, 3), bias [(1,)]; allowed is (16,)")
def bias_shorter_than_the_kernel(model):
    fill(model, one(model, "Conv").input[2], [0])


@hostile("is not a valid ONNX graph (ValidationError)")
def attribute_of_another_operator(model):
    one(model, "Relu").attribute.append(helper.make_attribute("group", 1))


@hostile("is not a valid ONNX graph (ValidationError)")
def value_from_nowhere(model):
    one(model, "Relu").input[0] = "nowhere"


@hostile("is not a valid ONNX graph (ValidationError)")
def value_made_twice(model):
    relus = of(model, "Relu")
    relus[1].output[0] = relus[0].output[0]


@hostile("is not a valid ONNX graph (ValidationError)")
def nodes_in_a_circle(model):
    first, *_, last = of(model, "Relu")
    first.input[0] = last.output[0]


@hostile("has a node Add that does not fit what it gets (InferenceError)")
def shapes_that_do_not_add_up(model):
    set_attribute(of(model, "Conv")[1], "strides", [2, 2])


@hostile("has a node Pad that computes (batch, 144, 32, 32); allowed is (batch, ...) with 1 to 16,384 numbers")
def padded_and_cut_again(model):
    numbers = [add(model, f"n{n}", [n], np.int64) for n in (0, 16, 1)]
    pads = add(model, "many_channels", [0, 64, 0, 0, 0, 64, 0, 0], np.int64)
    insert(model, one(model, "Relu"), "Slice", *numbers)
    insert(model, one(model, "Relu"), "Pad", pads)


@hostile("has a node Add that computes (batch, batch); allowed is (batch, ...)")
def square_of_the_batch(model):
    axis = add(model, "axis", [1], np.int64)
    pooled, gemm = one(model, "ReduceMean").output[0], one(model, "Gemm")
    nodes = [
        helper.make_node("ReduceMean", [pooled, axis], ["column"], keepdims=1),  # (batch, 1)
        helper.make_node("ReduceMean", [pooled, axis], ["row"], keepdims=0),  # (batch,)
        helper.make_node("Add", ["column", "row"], ["square"]),
        helper.make_node("ReduceMean", ["square", axis], ["mean_of_square"], keepdims=1),
        helper.make_node("Gemm", list(gemm.input), ["product"], transB=1),
        helper.make_node("Add", ["product", "mean_of_square"], ["sum"]),
    ]
    replace(model, "Gemm", nodes)


@hostile("has a node Slice that computes (1, 3, 32, 32); allowed is (batch, ...)")
def one_image_mixed_into_the_others(model):
    zero, one_ = add(model, "zero", [0], np.int64), add(model, "one", [1], np.int64)
    model.graph.node.insert(0, helper.make_node("Slice", ["images", zero, one_, zero], ["first"]))
    model.graph.node.insert(1, helper.make_node("Add", ["images", "first"], ["mixed"]))
    one(model, "Sub").input[0] = "mixed"


@hostile("has a node Slice that computes (batch, 3, 32, 0)")
def images_without_pixels(model):
    end = add(model, "end", [32], np.int64)
    axis = add(model, "axis", [3], np.int64)
    model.graph.node.insert(0, helper.make_node("Slice", ["images", end, end, axis], ["nothing"]))
    model.graph.node.insert(1, helper.make_node("ReduceMean", ["nothing", axis], ["mean_of_nothing"]))
    model.graph.node.insert(2, helper.make_node("Add", ["images", "mean_of_nothing"], ["mixed"]))
    one(model, "Sub").input[0] = "mixed"


@hostile("has a node Conv that computes (batch, 16, -1, -1)")
def sizes_below_zero(model):
    """On their way to a Slice, at which the inference of onnx 1.23 ends the process."""
    conv, relu = of(model, "Conv")[1], of(model, "Relu")[1]
    set_attribute(conv, "pads", [0] * 4)
    at, source = place(model, conv), conv.input[0]
    conv.input[0] = "point"
    insert(model, relu, "Slice", *(add(model, f"n{n}", [n], np.int64) for n in (0, 16, 2)))
    axes = add(model, "axes", [2, 3], np.int64)
    model.graph.node.insert(at, helper.make_node("ReduceMean", [source, axes], ["point"]))


@hostile(
    "computes logits and features of [(batch, 9), (batch, 64, 8, 8)]; allowed are [(batch, 10), (batch, 64, 8, 8)]"
)
def other_number_of_classes_computed(model):
    _, weight, bias = one(model, "Gemm").input
    fill(model, weight, np.ones((9, 64)))
    fill(model, bias, np.ones(9))


@hostile("computes logits by 'Relu'; allowed is a linear layer, Gemm or MatMul")
def logits_never_below_zero(model):
    insert(model, one(model, "Gemm"), "Relu")


@hostile("has a linear layer of (10, 8); allowed is (10, 64)")
def linear_layer_over_a_row_of_the_features(model):
    fill(model, one(model, "ReduceMean").input[1], [1, 2], np.int64)
    fill(model, one(model, "Gemm").input[1], np.ones((10, 8)))


@hostile("has a node Relu whose output nothing uses; allowed are nodes that lead to logits")
def value_that_nothing_uses(model):
    model.graph.node.append(helper.make_node("Relu", ["features"], ["unused"]))


@hostile("needs several values at once for over 10 nodes; allowed are 10")
def many_values_held_at_once(model):
    """x1 = relu(x0) ... x6 = relu(x5), then x6 + x5 + ... + x0: each is needed till its turn comes."""
    relu = one(model, "Relu")
    nodes = [helper.make_node("Relu", list(relu.input), ["x0"])]
    nodes += [helper.make_node("Relu", [f"x{i}"], [f"x{i + 1}"]) for i in range(6)]
    nodes += [helper.make_node("Add", ["x6" if i == 5 else f"y{i + 1}", f"x{i}"], [f"y{i}"]) for i in range(5, -1, -1)]
    replace(model, "Relu", nodes)


@pytest.mark.parametrize("name", HOSTILE)
def test_refused(name, model, refusal):
    change, words = HOSTILE[name]
    content = change(model)
    assert words in refusal(model.SerializeToString() if content is None else content)


# Beyond the table


def test_a_gigabyte_is_refused_unread(small, tmp_path, monkeypatch):
    path = tmp_path / "model.onnx"
    path.touch()
    os.truncate(path, 2**30)
    monkeypatch.setattr(Path, "read_bytes", lambda path: pytest.fail("read"))
    with pytest.raises(ArtifactError, match="has 1,073,741,824 bytes where"):
        check_graph(path, small.config, small.parameters)


def test_a_missing_file_is_refused(small, tmp_path):
    with pytest.raises(ArtifactError, match=r"cannot be read \(FileNotFoundError\)"):
        check_graph(tmp_path / "model.onnx", small.config, small.parameters)


def test_a_message_quotes_little_of_the_file_and_nothing_that_is_not_printable(model, refusal):
    one(model, "Relu").op_type = "\x1b[2J\u202e\n" * 1000
    message = refusal(model.SerializeToString())
    assert message.startswith("has a node '\\x1b[2J\\u202e\\n") and len(message) < 300


def test_a_name_that_is_not_text_raises_nothing_but_artifact_error(model, refusal):
    one(model, "Relu").op_type = "broken"
    assert "broken" not in refusal(model.SerializeToString().replace(b"broken", b"\xff\xfe\xfd\xfc\xfb\xfa"))
