"""MobileNetV2 1.0 at 224x224 in ONNX Runtime, OpenVINO and, where it is installed, PyTorch, for examples/mobilenet_v2.rs.

Speaks a line protocol: reads "PEER BATCH" lines from standard input, runs the network once for each, and answers with the
seconds it took. So the caller alternates between the peers and itself within one run. "PEER" is one of those named on the
first line that this program prints. Weights are random: they do not change the time.

    pip install numpy onnx onnxruntime openvino torch
"""

import os
import sys
import tempfile
import time

THREADS = int(os.environ.get("PEER_THREADS", "2"))
os.environ.setdefault("OMP_NUM_THREADS", str(THREADS))
# Threads that spin while another peer is timed would slow it down.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np

rng = np.random.default_rng(0)

# expansion, channels, repeats, stride: table 2 of Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks"
STAGES = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]


def build_onnx(path, batch):
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    nodes, constants = [], []

    def constant(name, array):
        constants.append(numpy_helper.from_array(np.asarray(array, np.float32), name))
        return name

    low, high = constant("low", 0.0), constant("high", 6.0)

    def conv(x, inputs, outputs, kernel, stride, groups, relu6):
        name = f"conv{len(nodes)}"
        weight = rng.normal(0, (2 / (inputs // groups * kernel * kernel)) ** 0.5, (outputs, inputs // groups, kernel, kernel))
        pad = kernel // 2
        nodes.append(
            helper.make_node(
                "Conv",
                [x, constant(name + ".w", weight), constant(name + ".b", rng.normal(0, 0.1, outputs))],
                [name],
                kernel_shape=[kernel, kernel],
                strides=[stride, stride],
                pads=[pad] * 4,
                group=groups,
            )
        )
        if relu6:
            nodes.append(helper.make_node("Clip", [name, low, high], [name + ".clip"]))
            return name + ".clip"
        return name

    x = conv("input", 3, 32, 3, 2, 1, True)
    channels = 32
    for expansion, outputs, repeats, first_stride in STAGES:
        for repeat in range(repeats):
            stride = first_stride if repeat == 0 else 1
            hidden = channels * expansion
            y = conv(x, channels, hidden, 1, 1, 1, True) if expansion != 1 else x
            y = conv(y, hidden, hidden, 3, stride, hidden, True)
            y = conv(y, hidden, outputs, 1, 1, 1, False)
            if stride == 1 and channels == outputs:
                nodes.append(helper.make_node("Add", [x, y], [y + ".sum"]))
                y = y + ".sum"
            x, channels = y, outputs
    x = conv(x, channels, 1280, 1, 1, 1, True)
    nodes.append(helper.make_node("GlobalAveragePool", [x], ["pooled"]))
    nodes.append(helper.make_node("Flatten", ["pooled"], ["flat"]))
    weight, bias = constant("fc.w", rng.normal(0, 0.03, (1000, 1280))), constant("fc.b", np.zeros(1000))
    nodes.append(helper.make_node("Gemm", ["flat", weight, bias], ["output"], transB=1))
    graph = helper.make_graph(
        nodes,
        "mobilenet_v2",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [batch, 3, 224, 224])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [batch, 1000])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.checker.check_model(model)
    onnx.save(model, path)


class OnnxRuntime:
    def __init__(self, path, batch):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = THREADS
        options.inter_op_num_threads = 1
        # A peer that spins while another one is timed would slow it down.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(self, x):
        return self.session.run(None, {"input": x})[0]


class OpenVino:
    def __init__(self, path, batch):
        import openvino

        core = openvino.Core()
        hint = "LATENCY" if batch == 1 else "THROUGHPUT"
        config = {"INFERENCE_NUM_THREADS": THREADS, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": hint}
        self.request = core.compile_model(core.read_model(path), "CPU", config).create_infer_request()

    def run(self, x):
        self.request.infer([x], share_inputs=True, share_outputs=True)
        return self.request.get_output_tensor().data


class PyTorch:
    def __init__(self, path, batch):
        import torch
        from torch import nn

        torch.set_num_threads(THREADS)

        def conv(inputs, outputs, kernel, stride, groups, relu6):
            layers = [nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups)]
            return nn.Sequential(*layers, *([nn.ReLU6(inplace=True)] if relu6 else []))

        class Block(nn.Module):
            def __init__(self, inputs, outputs, stride, expansion):
                super().__init__()
                hidden = inputs * expansion
                expand = [conv(inputs, hidden, 1, 1, 1, True)] if expansion != 1 else []
                self.layers = nn.Sequential(
                    *expand, conv(hidden, hidden, 3, stride, hidden, True), conv(hidden, outputs, 1, 1, 1, False)
                )
                self.residual = stride == 1 and inputs == outputs

            def forward(self, x):
                return x + self.layers(x) if self.residual else self.layers(x)

        layers, channels = [conv(3, 32, 3, 2, 1, True)], 32
        for expansion, outputs, repeats, first_stride in STAGES:
            for repeat in range(repeats):
                layers.append(Block(channels, outputs, first_stride if repeat == 0 else 1, expansion))
                channels = outputs
        layers += [conv(channels, 1280, 1, 1, 1, True), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1280, 1000)]
        self.torch = torch
        self.net = nn.Sequential(*layers).eval().to(memory_format=torch.channels_last)
        with torch.inference_mode():
            example = torch.zeros(batch, 3, 224, 224).to(memory_format=torch.channels_last)
            self.net = torch.jit.optimize_for_inference(torch.jit.freeze(torch.jit.trace(self.net, example)))

    def run(self, x):
        with self.torch.inference_mode():
            return self.net(self.torch.from_numpy(x).to(memory_format=self.torch.channels_last)).numpy()


def main():
    folder = tempfile.mkdtemp()
    peers = {"onnxruntime": OnnxRuntime, "openvino": OpenVino, "torch": PyTorch}
    found = {}
    for name, make in peers.items():
        try:
            module = __import__(name)
        except ImportError:
            continue
        found[name] = (make, module.__version__.split("-")[0])
    print(" ".join(f"{name}={version}" for name, (_, version) in found.items()), flush=True)
    sessions, inputs = {}, {}
    for line in sys.stdin:
        name, batch = line.split()
        batch = int(batch)
        path = os.path.join(folder, f"{batch}.onnx")
        if not os.path.exists(path):
            build_onnx(path, batch)
            inputs[batch] = rng.uniform(-1, 1, (batch, 3, 224, 224)).astype(np.float32)
        if (name, batch) not in sessions:
            sessions[name, batch] = found[name][0](path, batch)
            sessions[name, batch].run(inputs[batch])
        # A pause has put the threads to sleep and cooled the caches: not part of the measurement.
        sessions[name, batch].run(inputs[batch])
        start = time.perf_counter()
        sessions[name, batch].run(inputs[batch])
        print(time.perf_counter() - start, flush=True)


if __name__ == "__main__":
    main()
