"""llama-server's command line over the server inside the xllamacpp wheel.

Takes the flags that pool-managerd passes and refuses others, as llama-server does.
The key comes from LLAMA_API_KEY, never from the command line.
"""

import argparse
import importlib.metadata
import os
import signal
import sys
import threading

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
# Of ggml.
CACHE_TYPES = {"f32": 0, "f16": 1, "q8_0": 8}


class Parser(argparse.ArgumentParser):
    def error(self, message):
        sys.stderr.write(f"error: {message}\n")
        sys.exit(1)


def version():
    return f"llama.cpp server in xllamacpp {importlib.metadata.version('xllamacpp')}"


def parse():
    parser = Parser(prog="llama-server", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=version())
    parser.add_argument("-m", "--model", required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("-a", "--alias", default="")
    parser.add_argument("-c", "--ctx-size", type=int, default=0)
    parser.add_argument("-np", "--parallel", type=int, default=1)
    parser.add_argument("-b", "--batch-size", type=int, default=2048)
    parser.add_argument("-ub", "--ubatch-size", type=int, default=512)
    parser.add_argument("-ctk", "--cache-type-k", choices=list(CACHE_TYPES), default="f16")
    parser.add_argument("-ctv", "--cache-type-v", choices=list(CACHE_TYPES), default="f16")
    parser.add_argument("--embeddings", action="store_true")
    parser.add_argument("--pooling", choices=["mean", "cls", "last", "rank"])
    parser.add_argument("--reranking", action="store_true")
    parser.add_argument("-t", "--threads", type=int, default=1)
    parser.add_argument("--sse-ping-interval", type=int, default=30)
    parser.add_argument("--metrics", action="store_true")
    parser.add_argument("--slots", action="store_true")
    parser.add_argument("--jinja", action="store_true")
    parser.add_argument("--no-ui", action="store_true")
    arguments, unknown = parser.parse_known_args()
    if unknown:
        parser.error(f"invalid argument: {unknown[0]}")
    return arguments


def main():
    arguments = parse()
    # Python runs its handlers between bytecodes only: while a model loads, in C++, just the default
    # action ends the process at once.
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_DFL)

    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = arguments.model
    params.hostnames = [arguments.host]
    params.port = arguments.port
    params.n_ctx = arguments.ctx_size
    params.n_parallel = arguments.parallel
    params.kv_unified = False
    params.cache_type_k = xllamacpp.ggml_type(CACHE_TYPES[arguments.cache_type_k])
    params.cache_type_v = xllamacpp.ggml_type(CACHE_TYPES[arguments.cache_type_v])
    params.n_batch = arguments.batch_size
    params.n_ubatch = arguments.ubatch_size
    params.embedding = arguments.embeddings or arguments.reranking
    pooling = "rank" if arguments.reranking else arguments.pooling
    if pooling:
        name = f"LLAMA_POOLING_TYPE_{pooling.upper()}"
        params.pooling_type = getattr(xllamacpp.llama_pooling_type, name)
    params.cpuparams.n_threads = arguments.threads
    params.cpuparams_batch.n_threads = arguments.threads
    params.endpoint_metrics = arguments.metrics
    params.endpoint_slots = arguments.slots
    params.use_jinja = arguments.jinja
    params.sse_ping_interval = arguments.sse_ping_interval
    params.ui = False
    if arguments.alias:
        params.model_alias = {arguments.alias}
    key = os.environ.get("LLAMA_API_KEY")
    if key:
        params.api_keys = [key]

    try:
        server = xllamacpp.Server(params)
    except Exception as error:  # the wheel raises plain RuntimeError
        sys.stderr.write(f"error: {error}\n")
        sys.stderr.flush()
        os._exit(1)
    # A stop must not wait for the engine's C++ threads.
    for number in STOP_SIGNALS:
        signal.signal(number, lambda *_: os._exit(0))
    print("listening", server.listening_address, flush=True)
    threading.Event().wait()


main()
