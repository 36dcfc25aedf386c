"""`python -m pombo.sandbox`"""

import argparse
import logging

from pombo.sandbox.server import serve


def main() -> None:
    parser = argparse.ArgumentParser(prog="pombo sandbox", description="Meta's sending APIs, simulated.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=3200, help="port to listen on (default: %(default)s)")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    serve(arguments.host, arguments.port)


if __name__ == "__main__":
    main()
