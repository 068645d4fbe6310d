"""The prototype's master: deals ranges of a film's frames to servers drawn at random.

usage: master.py FILMS ENDPOINT...
"""

import random
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import grpc

protos, services = grpc.protos_and_services("distribution.proto")

RANGE_FRAMES = 100
DRAWN = 3
"""Servers that share what one request asks for."""


class Master(services.MasterServicer):  # type: ignore[misc]
    """Knows the servers, all of which hold all films."""

    def __init__(self, films: Path, endpoints: list[str]) -> None:
        """Takes the folder of films and the servers' addresses."""
        self._films = films
        self._endpoints = endpoints

    def GetDistribution(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        """Ranges of 100 frames, round robin."""
        film = cv2.VideoCapture(str(self._films / Path(request.filename).name))
        if not film.isOpened():
            context.abort(grpc.StatusCode.NOT_FOUND, f"no film {request.filename!r}")
        count = int(film.get(cv2.CAP_PROP_FRAME_COUNT))
        film.release()
        end = min(request.endFrame, count) if request.HasField("endFrame") else count
        reply = protos.DistributionReply(endOfFile=end == count)
        drawn = random.sample(self._endpoints, DRAWN)
        for number, begin in enumerate(range(request.beginFrame, end, RANGE_FRAMES)):
            endpoint = drawn[number % DRAWN]
            reply.distribution.add(endpoint=endpoint, beginFrame=begin, endFrame=min(begin + RANGE_FRAMES, end))
        return reply


def main() -> None:
    """Serves until it is ended."""
    server = grpc.server(ThreadPoolExecutor())
    services.add_MasterServicer_to_server(Master(Path(sys.argv[1]), sys.argv[2:]), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(f"listening 127.0.0.1:{port}", flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    main()
