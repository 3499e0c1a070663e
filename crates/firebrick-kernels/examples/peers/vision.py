"""A network of torchvision or timm in PyTorch, ONNX Runtime and, where it is installed, OpenVINO, for the examples beside this folder.

    python vision.py resnet50

Speaks a line protocol: reads "PEER BATCH" lines from standard input, runs the network once for each, and answers with the
seconds it took. So the caller alternates between the peers and itself within one run. "PEER" is one of those named on the
first line that this program prints. Weights are random: they do not change the time.

PyTorch runs the network traced, frozen and optimised for inference, in NCHW and in channels_last memory; the others get it as ONNX.

    pip install numpy onnx onnxruntime openvino torch torchvision timm
"""

import os
import sys
import tempfile
import time
import warnings

THREADS = int(os.environ.get("PEER_THREADS", "2"))
os.environ.setdefault("OMP_NUM_THREADS", str(THREADS))
# Threads that spin while another peer is timed would slow it down.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
warnings.filterwarnings("ignore")

import numpy as np
import torch

torch.manual_seed(0)
torch.set_num_threads(THREADS)


def network(name):
    import torchvision

    if name in torchvision.models.list_models():
        return torchvision.models.get_model(name, weights=None).eval()
    import timm

    return timm.create_model(name, pretrained=False).eval()


class OnnxRuntime:
    module = "onnxruntime"

    def __init__(self, net, path, batch):
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
    module = "openvino"

    def __init__(self, net, path, batch):
        import openvino

        core = openvino.Core()
        hint = "LATENCY" if batch == 1 else "THROUGHPUT"
        config = {"INFERENCE_NUM_THREADS": THREADS, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": hint}
        self.request = core.compile_model(core.read_model(path), "CPU", config).create_infer_request()

    def run(self, x):
        self.request.infer([x], share_inputs=True, share_outputs=True)
        return self.request.get_output_tensor().data


class PyTorch:
    module = "torch"
    memory = torch.contiguous_format

    def __init__(self, net, path, batch):
        example = torch.zeros(batch, 3, 224, 224).to(memory_format=self.memory)
        with torch.inference_mode():
            net = torch.jit.freeze(torch.jit.trace(net.to(memory_format=self.memory), example))
            self.net = torch.jit.optimize_for_inference(net)

    def run(self, x):
        with torch.inference_mode():
            return self.net(torch.from_numpy(x).to(memory_format=self.memory)).numpy()


class PyTorchChannelsLast(PyTorch):
    memory = torch.channels_last


def main():
    folder = tempfile.mkdtemp()
    net = network(sys.argv[1])
    peers = {"onnxruntime": OnnxRuntime, "openvino": OpenVino, "torch-nchw": PyTorch, "torch-channels-last": PyTorchChannelsLast}
    found = {}
    for name, make in peers.items():
        try:
            module = __import__(make.module)
        except ImportError:
            continue
        found[name] = (make, module.__version__.split("-")[0])
    print(" ".join(f"{name}={version}" for name, (_, version) in found.items()), flush=True)
    rng = np.random.default_rng(0)
    sessions, inputs = {}, {}
    for line in sys.stdin:
        name, batch = line.split()
        batch = int(batch)
        path = os.path.join(folder, f"{batch}.onnx")
        if not os.path.exists(path):
            example = torch.zeros(batch, 3, 224, 224)
            # The exporter that needs no further package.
            torch.onnx.export(net, (example,), path, dynamo=False, opset_version=17, input_names=["input"])
            inputs[batch] = rng.uniform(-1, 1, (batch, 3, 224, 224)).astype(np.float32)
        if (name, batch) not in sessions:
            sessions[name, batch] = found[name][0](net, path, batch)
            sessions[name, batch].run(inputs[batch])
            sessions[name, batch].run(inputs[batch])
        # A pause has put the threads to sleep and cooled the caches: not part of the measurement.
        sessions[name, batch].run(inputs[batch])
        start = time.perf_counter()
        sessions[name, batch].run(inputs[batch])
        print(time.perf_counter() - start, flush=True)


if __name__ == "__main__":
    main()
