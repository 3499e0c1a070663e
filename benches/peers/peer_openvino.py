"""OpenVINO: inference of image classifiers in f32, converted from PyTorch. See worker.py."""

import worker

import openvino
import torch

from networks import classifier, images

torch.set_num_threads(worker.THREADS)


def infer(batch, network="mobilenet_v2"):
    x = images(batch)
    model = openvino.convert_model(classifier(network).eval(), example_input=x, input=list(x.shape))
    config = {
        "INFERENCE_NUM_THREADS": worker.THREADS,
        "NUM_STREAMS": 1,
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY" if batch == 1 else "THROUGHPUT",
    }
    request = openvino.Core().compile_model(model, "CPU", config).create_infer_request()
    pixels = x.numpy()
    return lambda: request.infer([pixels], share_inputs=True, share_outputs=True)


worker.serve(
    "OpenVINO",
    {"openvino": openvino.__version__.split("-")[0], "torch": torch.__version__.split("+")[0]},
    {"infer": infer},
)
