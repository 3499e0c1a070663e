"""What every peer does: stay loaded, and measure on request.

A peer is a process that reads one JSON object a line from standard input and answers each with one on standard output, so
that its caller can alternate between several peers and Firebrick within one run.

    greeting   {"peer": "PyTorch", "versions": {"torch": "2.15.0"}, "threads": 2}
    request    {"work": "infer", "runs": 5, ...}            further keys are the work's own, e.g. "batch"
    answer     {"seconds": [0.1, ...], "peak_rss_mb": 512.0}    seconds of each run, of the whole batch
    failure    {"error": "what was wrong"}

The first request of a kind builds the network; every request begins with a run that is not timed, because the pause before
it has put threads to sleep and cooled the caches. `PEER_THREADS` is the number of threads, by default all cores.
"""

import json
import os
import sys
import time

THREADS = int(os.environ.get("PEER_THREADS", "0")) or os.cpu_count() or 1
# Both are read when a library is first imported, so import this module before any.
os.environ["OMP_NUM_THREADS"] = str(THREADS)
# Threads that spin while somebody else is being timed would slow that one down.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def peak_resident_mb():
    """The peak of this process's resident memory so far, MiB; None where the system does not tell."""
    try:
        with open("/proc/self/status") as status:
            for line in status:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) / 1024
    except OSError:
        pass
    return None


def timed(run, runs):
    """Seconds of each of `runs` calls of `run`, after one that is not timed."""
    run()
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return {"seconds": seconds}


def serve(peer, versions, works):
    """Answers requests until standard input ends.

    `works` maps a work's name to a function of its request without "work" and "runs". It returns either a function without
    arguments, one call of which is one run and which is kept for later requests, or an answer.
    """
    # Whatever a library prints must not come between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(content):
        print(json.dumps(content), file=answers, flush=True)

    answer({"peer": peer, "versions": versions, "threads": THREADS})
    built = {}
    for line in sys.stdin:
        request = json.loads(line)
        work, runs = request.pop("work"), request.pop("runs", 1)
        key = json.dumps([work, request], sort_keys=True)
        try:
            if work not in works:
                raise ValueError(f"no work {work!r}; there are {', '.join(works)}")
            result = built[key] if key in built else works[work](**request)
            if callable(result):
                built[key] = result
                result = timed(result, runs)
            answer({**result, "peak_rss_mb": peak_resident_mb()})
        except Exception as error:
            answer({"error": f"{type(error).__name__}: {error}"})
