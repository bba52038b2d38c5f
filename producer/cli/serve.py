"""``ocr-producer serve``: the page and the HTTP API."""

from __future__ import annotations

from pathlib import Path

import click

from detector.cli.say import say
from producer.errors import ProducerError


class WebMissingError(ProducerError):
    """The libraries of the page are not installed."""


@click.command()
@click.option("--local", is_flag=True, help="Start a private server and workers here, and stop them with the page.")
@click.option("--workers", type=click.IntRange(1, 64), default=1, show_default=True, help="With --local: how many.")
@click.option("--host", default="", help="Address to listen on.  [default: OCRFLEET_WEB_HOST, or 127.0.0.1]")
@click.option("--port", type=click.IntRange(1, 65535), help="Port.  [default: OCRFLEET_WEB_PORT, or 8600]")
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Uploads and results.  [default: OCRFLEET_WEB_FOLDER, or ~/.local/state/ocrfleet-web]",
)
def serve(local: bool, workers: int, host: str, port: int | None, folder: Path | None) -> None:
    """Serve a web page and an HTTP API: drop pictures, see boxes, download results.

    Beyond this machine only with OCRFLEET_WEB_TOKEN set. Ctrl-C stops it; open jobs go on at the next start.

    \b
    Examples:
      ocr-producer serve --local
      OCRFLEET_REDIS_URL=rediss://… OCRFLEET_WEB_TOKEN=… ocr-producer serve --host 0.0.0.0
    """
    import os
    from importlib.util import find_spec

    if missing := [name for name in ("starlette", "uvicorn", "python_multipart") if find_spec(name) is None]:
        raise WebMissingError(f"the page needs {', '.join(missing)}: pip install 'ocrfleet[web]'")
    from producer.web.server import log_to_stderr
    from producer.web.server import serve as serve_forever
    from producer.web.settings import read_web_settings
    from worker.settings import read_settings

    low = read_settings(os.environ).profile.name == "low"
    web = read_web_settings(os.environ, low=low, host=host, port=port or 0, folder=folder and folder.absolute())
    log_to_stderr()
    serve_forever(web, local=local, workers=workers, ready=lambda url: say(f"ready at {url}"))
    say("stopped; open jobs go on at the next start")
