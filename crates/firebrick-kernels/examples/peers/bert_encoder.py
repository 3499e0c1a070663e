"""A BERT encoder (6 layers, 384 wide, 12 heads, feed-forward 1536) in ONNX Runtime and PyTorch, for examples/bert_encoder.rs.

Speaks a line protocol: reads "PEER BATCH TOKENS" lines from standard input, runs the network once for each, and answers with the
seconds it took. So the caller alternates between the peers and itself within one run. "PEER" is one of those named on the
first line that this program prints. Weights are random: they do not change the time.

ONNX Runtime gets the graph twice: "onnxruntime" in standard operators, which its own optimiser may fuse, "onnxruntime-fused" in the
fused operators for which its tools rewrite BERT (EmbedLayerNormalization is left out: it wants other inputs; the gather is a
thousandth of the work). PyTorch runs F.scaled_dot_product_attention ("torch") and nn.TransformerEncoder's fast path ("torch-fast").

    pip install numpy onnx onnxruntime torch
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

LAYERS, WIDTH, HEADS, FEED_FORWARD, VOCABULARY, POSITIONS = 6, 384, 12, 1536, 30522, 512

rng = np.random.default_rng(0)


def build_onnx(path, batch, tokens, fused):
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    nodes, constants = [], []

    def constant(name, array):
        constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def node(kind, inputs, domain="", **attributes):
        name = f"{kind}{len(nodes)}"
        nodes.append(helper.make_node(kind, inputs, [name], domain=domain, **attributes))
        return name

    def weight(name, inputs, outputs):
        w = constant(name + ".w", rng.uniform(-1, 1, (inputs, outputs)).astype(np.float32) * np.float32((3 / inputs) ** 0.5))
        return w, constant(name + ".b", rng.normal(0, 0.1, outputs).astype(np.float32))

    def linear(x, name, inputs, outputs):
        w, b = weight(name, inputs, outputs)
        return node("Add", [node("MatMul", [x, w]), b])

    gamma, beta = constant("gamma", np.ones(WIDTH, np.float32)), constant("beta", np.zeros(WIDTH, np.float32))
    split = constant("split", np.array([batch, tokens, HEADS, WIDTH // HEADS]))
    merge = constant("merge", np.array([batch, tokens, WIDTH]))
    scale = constant("scale", np.float32((WIDTH // HEADS) ** -0.5))

    def norm(x):
        return node("LayerNormalization", [x, gamma, beta], axis=-1, epsilon=1e-12)

    def attention(x, name):
        if fused:
            w, b = weight(name + ".qkv", WIDTH, 3 * WIDTH)
            return node("Attention", [x, w, b], domain="com.microsoft", num_heads=HEADS)
        q, k, v = (node("Reshape", [linear(x, f"{name}.{part}", WIDTH, WIDTH), split]) for part in "qkv")
        q, v = (node("Transpose", [part], perm=[0, 2, 1, 3]) for part in (q, v))
        k = node("Transpose", [k], perm=[0, 2, 3, 1])
        scores = node("Softmax", [node("Mul", [node("MatMul", [q, k]), scale])], axis=-1)
        context = node("Transpose", [node("MatMul", [scores, v])], perm=[0, 2, 1, 3])
        return node("Reshape", [context, merge])

    def add_norm(x, y, w, b):
        """Norm of x and y with its bias."""
        if fused:
            y = node("MatMul", [y, w])
            return node("SkipLayerNormalization", [y, x, gamma, beta, b], domain="com.microsoft", epsilon=1e-12)
        return norm(node("Add", [x, node("Add", [node("MatMul", [y, w]), b])]))

    def gelu(x, w, b):
        x = node("MatMul", [x, w])
        if fused:
            return node("BiasGelu", [x, b], domain="com.microsoft")
        x = node("Add", [x, b])
        erf = node("Erf", [node("Div", [x, constant(x + ".sqrt2", np.float32(2**0.5))])])
        one = node("Add", [erf, constant(x + ".one", np.float32(1))])
        return node("Mul", [node("Mul", [x, one]), constant(x + ".half", np.float32(0.5))])

    words = constant("words", rng.normal(0, 0.05, (VOCABULARY, WIDTH)).astype(np.float32))
    rest = constant("rest", rng.normal(0, 0.05, (1, tokens, WIDTH)).astype(np.float32))
    x = norm(node("Add", [node("Gather", [words, "ids"]), rest]))
    for layer in range(LAYERS):
        context = attention(x, f"{layer}.attention")
        x = add_norm(x, context, *weight(f"{layer}.mix", WIDTH, WIDTH))
        wide = gelu(x, *weight(f"{layer}.expand", WIDTH, FEED_FORWARD))
        x = add_norm(x, wide, *weight(f"{layer}.project", FEED_FORWARD, WIDTH))
    graph = helper.make_graph(
        nodes,
        "bert_encoder",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, [batch, tokens])],
        [helper.make_tensor_value_info(x, TensorProto.FLOAT, [batch, tokens, WIDTH])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)])
    model.ir_version = 8
    onnx.save(model, path)


class OnnxRuntime:
    fused = False

    def __init__(self, folder, batch, tokens):
        import onnxruntime

        path = os.path.join(folder, f"{batch}-{tokens}-{self.fused}.onnx")
        build_onnx(path, batch, tokens, self.fused)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = THREADS
        options.inter_op_num_threads = 1
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        # A peer that spins while another one is timed would slow it down.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(self, ids):
        return self.session.run(None, {"ids": ids})[0]


class OnnxRuntimeFused(OnnxRuntime):
    fused = True


class PyTorch:
    fast = False

    def __init__(self, folder, batch, tokens):
        import torch
        from torch import nn
        from torch.nn import functional as F

        torch.set_num_threads(THREADS)

        class Layer(nn.Module):
            def __init__(self):
                super().__init__()
                self.attend, self.mix = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
                self.expand, self.project = nn.Linear(WIDTH, FEED_FORWARD), nn.Linear(FEED_FORWARD, WIDTH)
                self.norms = nn.ModuleList(nn.LayerNorm(WIDTH, eps=1e-12) for _ in range(2))

            def forward(self, x):
                shape = (x.shape[0], x.shape[1], 3, HEADS, WIDTH // HEADS)
                q, k, v = self.attend(x).view(shape).permute(2, 0, 3, 1, 4)
                context = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(x.shape)
                x = self.norms[0](x + self.mix(context))
                return self.norms[1](x + self.project(F.gelu(self.expand(x))))

        class Encoder(nn.Module):
            def __init__(self, layers):
                super().__init__()
                self.words, self.positions = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(POSITIONS, WIDTH)
                self.norm, self.layers = nn.LayerNorm(WIDTH, eps=1e-12), layers

            def forward(self, ids):
                return self.layers(self.norm(self.words(ids) + self.positions.weight[: ids.shape[1]]))

        if self.fast:
            layer = nn.TransformerEncoderLayer(
                WIDTH, HEADS, FEED_FORWARD, activation="gelu", layer_norm_eps=1e-12, batch_first=True
            )
            layers = nn.TransformerEncoder(layer, LAYERS)
        else:
            layers = nn.Sequential(*(Layer() for _ in range(LAYERS)))
        self.torch = torch
        self.net = Encoder(layers).eval()

    def run(self, ids):
        with self.torch.inference_mode():
            return self.net(self.torch.from_numpy(ids)).numpy()


class PyTorchFast(PyTorch):
    fast = True


def main():
    folder = tempfile.mkdtemp()
    peers = {
        "onnxruntime": ("onnxruntime", OnnxRuntime),
        "onnxruntime-fused": ("onnxruntime", OnnxRuntimeFused),
        "torch": ("torch", PyTorch),
        "torch-fast": ("torch", PyTorchFast),
    }
    found = {}
    for name, (library, make) in peers.items():
        try:
            module = __import__(library)
        except ImportError:
            continue
        found[name] = (make, module.__version__.split("+")[0])
    print(" ".join(f"{name}={version}" for name, (_, version) in found.items()), flush=True)
    sessions = {}
    for line in sys.stdin:
        name, batch, tokens = line.split()
        batch, tokens = int(batch), int(tokens)
        ids = np.arange(batch * tokens, dtype=np.int64).reshape(batch, tokens) * 7919 % VOCABULARY
        key = name, batch, tokens
        if key not in sessions:
            sessions[key] = found[name][0](folder, batch, tokens)
            sessions[key].run(ids)
        # A pause has put the threads to sleep and cooled the caches: not part of the measurement.
        sessions[key].run(ids)
        start = time.perf_counter()
        sessions[key].run(ids)
        print(time.perf_counter() - start, flush=True)


if __name__ == "__main__":
    main()
