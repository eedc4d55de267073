"""What tests/cluster/test_hosts.py has its hosts do, each in a process of its own: `python on_host.py VERB ARGUMENTS`.

upload ENDPOINT FOLDER NAME…    the files FOLDER/NAME become bucket/videos/NAME of an S3 server that may still start
tree URI                        prints the dataset's files with their hashes, as JSON
times URI                       prints the dataset's receipts with the times of their writing, as JSON
receipts URI                    prints a line "SECONDS NUMBER" for each change of the number of receipts
nodes ADDRESS                   prints a line "SECONDS NAME NAME …" for each change of the hosts that Ray has
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Hashable
from pathlib import Path

import pyarrow.fs as pafs

POLL_S = 0.2
TRIES = 120


def upload(endpoint: str, folder: str, *names: str) -> None:
    filesystem = pafs.S3FileSystem(
        endpoint_override=endpoint,
        scheme="http",
        region="us-east-1",
        allow_bucket_creation=True,
        retry_strategy=pafs.AwsStandardS3RetryStrategy(max_attempts=1),
    )
    for attempt in range(TRIES):
        try:
            filesystem.create_dir("bucket")
            break
        except OSError:
            if attempt + 1 == TRIES:
                raise
            time.sleep(0.5)
    for name in names:
        with filesystem.open_output_stream(f"bucket/videos/{name}") as stream:
            stream.write((Path(folder) / name).read_bytes())


def print_tree(uri: str) -> None:
    from trees import tree

    print(json.dumps(tree(uri)))


def print_times(uri: str) -> None:
    print(json.dumps({info.path: info.mtime_ns for info in receipts(uri)}))


def receipts(uri: str) -> list[pafs.FileInfo]:
    filesystem, root = pafs.FileSystem.from_uri(uri)
    infos = filesystem.get_file_info(pafs.FileSelector(root, recursive=True, allow_not_found=True))
    return [info for info in infos if "/_receipts/" in info.path and info.is_file]


def watch(look: Callable[[], Hashable]) -> None:
    """Print what is seen whenever it changes, with the seconds of this machine's clock; for ever."""
    last: Hashable = None
    while True:
        if (seen := look()) != last:
            print(f"{time.monotonic():.2f} {seen}", flush=True)
            last = seen
        time.sleep(POLL_S)


def watch_receipts(uri: str) -> None:
    watch(lambda: len(receipts(uri)))


def watch_nodes(address: str) -> None:
    import ray

    ray.init(address=address, log_to_driver=False, namespace="watch")
    watch(lambda: " ".join(sorted(node["NodeManagerHostname"] for node in ray.nodes() if node["Alive"])))


if __name__ == "__main__":
    verbs: dict[str, Callable[..., None]] = {
        "upload": upload,
        "tree": print_tree,
        "times": print_times,
        "receipts": watch_receipts,
        "nodes": watch_nodes,
    }
    verbs[sys.argv[1]](*sys.argv[2:])
