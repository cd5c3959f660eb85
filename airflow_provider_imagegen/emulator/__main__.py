"""The command line: ``python -m airflow_provider_imagegen.emulator --port 8790 --latency 5``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from airflow_provider_imagegen.emulator.app import create_app
from airflow_provider_imagegen.emulator.server import listen, server_for
from airflow_provider_imagegen.emulator.settings import DialectName, EmulatorSettings, Latency


def _parser() -> argparse.ArgumentParser:
    defaults = EmulatorSettings()
    parser = argparse.ArgumentParser(
        prog="python -m airflow_provider_imagegen.emulator",
        description="A local image gateway that draws real images and keeps the bill.",
    )
    add = parser.add_argument
    add("--host", default=defaults.host)
    add("--port", type=int, default=defaults.port, help="0 takes a free one (default: %(default)s)")
    add("--token", action="append", dest="tokens",
        help=f"a bearer token that is accepted; give it again for more (default: {defaults.token})")  # fmt: skip
    add("--latency", default="0",
        help="seconds per image, a range such as 1-8, or lognormal:MEDIAN,SIGMA (default: %(default)s)")  # fmt: skip
    add("--jitter", type=float, default=0.0, help="0.2 makes 5 seconds into 4 to 6 (default: %(default)s)")
    add("--seed", type=int, default=defaults.seed, help="of the latencies (default: %(default)s)")
    add("--dialect", type=DialectName, choices=list(DialectName), default=defaults.dialect,
        help="who answers at the root's /v1/images/... (default: %(default)s)")  # fmt: skip
    add("--preview-share", type=float, default=defaults.preview_share, help="of tasks that show a preview")
    add("--max-in-flight", type=int, help="unfinished tasks of a token before rate_limited (default: unlimited)")
    add("--result-ttl", type=float, help="seconds a result URL lives (default: for good)")
    add("--image-bytes", type=int, help="make every result a noise PNG of this many bytes")
    return parser


def read_settings(arguments: Sequence[str]) -> EmulatorSettings:
    """Return the settings that the command line asks for; exits with a message when it is wrong."""
    parser = _parser()
    given = vars(parser.parse_args(arguments))
    try:
        given["latency"] = Latency.parse(given["latency"], given.pop("jitter"))
    except ValueError as error:
        parser.error(f"--latency: {error}")
    if tokens := given.pop("tokens"):
        given["token"], given["more_tokens"] = tokens[0], tuple(tokens[1:])
    return EmulatorSettings(**given)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until interrupted."""
    settings = read_settings(sys.argv[1:] if arguments is None else arguments)
    try:
        listener = listen(settings.host, settings.port)
    except OSError as error:
        sys.stderr.write(f"cannot listen on {settings.host}:{settings.port}: {error.strerror}\n")
        return 1
    port = listener.getsockname()[1]
    tokens = ", ".join((settings.token, *settings.more_tokens))
    sys.stdout.write(f"emulator ready at http://{settings.host}:{port} (token: {tokens})\n")
    sys.stdout.flush()
    server_for(create_app(settings)).run(sockets=[listener])
    return 0


if __name__ == "__main__":
    sys.exit(main())
