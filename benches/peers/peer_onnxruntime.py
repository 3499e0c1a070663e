"""ONNX Runtime: image classifiers and BERT's encoder, exported from PyTorch, every graph optimisation on. See worker.py."""

import worker

import os
import tempfile

import onnxruntime
import torch

from networks import BertEncoder, classifier, export, images, tokens

torch.set_num_threads(worker.THREADS)


def session(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = worker.THREADS
    options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    # Threads that spin while somebody else is being timed would slow that one down.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def runner(path, example):
    opened = session(path)
    inputs = {"input": example.numpy()}
    return lambda: opened.run(None, inputs)


def infer(batch, network="mobilenet_v2"):
    x = images(batch)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "network.onnx")
        export(classifier(network), x, path)
        return runner(path, x)


def encode(batch, length):
    """With the runtime's own fusion of attention, which its sessions do not do by themselves."""
    from onnxruntime.transformers.optimizer import optimize_model

    ids = tokens(batch, length)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "network.onnx")
        export(BertEncoder(fused=False), ids, path)
        fused = os.path.join(folder, "fused.onnx")
        optimize_model(
            path, model_type="bert", num_heads=BertEncoder.HEADS, hidden_size=BertEncoder.WIDTH
        ).save_model_to_file(fused)
        return runner(fused, ids)


worker.serve(
    "ONNX Runtime",
    {"onnxruntime": onnxruntime.__version__, "torch": torch.__version__.split("+")[0]},
    {"infer": infer, "encode": encode},
)
