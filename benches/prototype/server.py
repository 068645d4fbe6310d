"""The prototype's media server: opens the film for every request, decodes, and sends pickled pictures.

A request is a line of JSON on a TCP connection of its own: [filename, first frame, frame after the last]. The answer
is a pickled list of arrays, height x width x 3, uint8, BGR, and the connection's end.

usage: server.py FILMS seek|skip

`seek` goes to the first frame by OpenCV's own means, `skip` decodes everything before it.
"""

import json
import pickle
import socketserver
import sys
from pathlib import Path

import cv2


class Request(socketserver.StreamRequestHandler):
    """A connection, on a thread of its own."""

    def handle(self) -> None:
        """Answers the one request."""
        name, begin, end = json.loads(self.rfile.readline())
        film = cv2.VideoCapture(str(Path(sys.argv[1]) / Path(name).name))
        if sys.argv[2] == "seek":
            film.set(cv2.CAP_PROP_POS_FRAMES, begin)
        else:
            for _ in range(begin):
                film.grab()
        pictures = []
        for _ in range(begin, end):
            is_read, picture = film.read()
            if not is_read:
                break
            pictures.append(picture)
        film.release()
        self.wfile.write(pickle.dumps(pictures))


def main() -> None:
    """Serves until it is ended."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Request) as server:
        host, port = server.server_address
        print(f"listening {host}:{port}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
