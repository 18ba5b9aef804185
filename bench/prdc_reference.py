"""The `prdc` package's computation (Naeem et al. 2020, github.com/clovaai/generative-evaluation-prdc), driven over
JSON lines: {"command": "load", "real", "fake", "dims"} with base64 float32 points, or "real_path" and "fake_path" of
files of raw float32 values, then {"command": "compute",
"nearest_k"} as often as wanted. The answer has the metrics, the seconds and the growth of the resident set."""

import base64
import json
import sys
import time

import numpy as np
import sklearn.metrics


def pairwise_distance(data_x, data_y=None):
    if data_y is None:
        data_y = data_x
    return sklearn.metrics.pairwise_distances(data_x, data_y, metric="euclidean", n_jobs=8)


def kth_value(unsorted, k, axis=-1):
    indices = np.argpartition(unsorted, k, axis=axis)[..., :k]
    return np.take_along_axis(unsorted, indices, axis=axis).max(axis=axis)


def nearest_neighbour_distances(features, nearest_k):
    return kth_value(pairwise_distance(features), k=nearest_k + 1, axis=-1)


def compute_prdc(real, fake, nearest_k):
    real_radii = nearest_neighbour_distances(real, nearest_k)
    fake_radii = nearest_neighbour_distances(fake, nearest_k)
    distance = pairwise_distance(real, fake)
    precision = (distance < np.expand_dims(real_radii, axis=1)).any(axis=0).mean()
    recall = (distance < np.expand_dims(fake_radii, axis=0)).any(axis=1).mean()
    density = (1.0 / float(nearest_k)) * (distance < np.expand_dims(real_radii, axis=1)).sum(axis=0).mean()
    coverage = (distance.min(axis=1) < real_radii).mean()
    return dict(precision=precision, recall=recall, density=density, coverage=coverage)


def memory_status(field):
    with open("/proc/self/status") as status:
        for line in status:
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024
    raise RuntimeError("/proc/self/status has no " + field)


def reset_peak_memory():
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
        return memory_status("VmRSS")
    except OSError:
        return None


def measured(real, fake, nearest_k):
    baseline = reset_peak_memory()
    start = time.perf_counter()
    metrics = compute_prdc(real, fake, nearest_k)
    answer = {"seconds": time.perf_counter() - start, "metrics": {k: float(v) for k, v in metrics.items()}}
    if baseline is not None:
        answer["peakBytes"] = memory_status("VmHWM") - baseline
    return answer


def points(request, name):
    path = request.get(name + "_path")
    values = np.fromfile(path, dtype="<f4") if path else np.frombuffer(base64.b64decode(request[name]), dtype="<f4")
    return values.reshape(-1, request["dims"]).astype(np.float64)


def main():
    real = fake = None
    for line in sys.stdin:
        request = json.loads(line)
        if request["command"] == "load":
            real, fake = points(request, "real"), points(request, "fake")
            answer = {"count": len(real)}
        else:
            answer = measured(real, fake, request["nearest_k"])
        print(json.dumps(answer), flush=True)


main()
