"""The simulator as a server on loopback: Twilio's REST API, its own controls, the network in real time."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import signal
import threading
from collections.abc import AsyncIterator, Iterator
from urllib.parse import parse_qsl

from aiohttp import web

from dialer.simulator.controls import ROUTES as CONTROLS
from dialer.simulator.controls import SIMULATOR
from dialer.simulator.model import Params, TwilioError
from dialer.simulator.realtime import Simulator, log
from dialer.simulator.rest import RestRequest, RestResponse, handle
from dialer.simulator.server_config import AccountConfig, SimulatorConfig, load
from dialer.simulator.settings import ConfigError

__all__ = [
    "SIMULATOR",
    "AccountConfig",
    "AddressInUse",
    "ConfigError",
    "Simulator",
    "SimulatorConfig",
    "create_server",
    "load",
    "run_server",
    "serve",
    "serve_in_thread",
]

HANG_SECONDS = 120.0  # how long a REST request that never gets an answer is held, at most


class AddressInUse(Exception):
    """Another program listens where the simulator should."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(f"{host}:{port} is in use by another program; give the simulator another address")
        self.host = host
        self.port = port


def create_server(config: SimulatorConfig) -> web.Application:
    """The application; its Simulator is at app[SIMULATOR] and runs from start-up to clean-up."""
    app = web.Application(client_max_size=1 << 20)
    app[SIMULATOR] = Simulator(config)
    app.cleanup_ctx.append(_run_network)
    app.add_routes(CONTROLS)
    app.router.add_route("*", "/{path:.*}", _rest)
    return app


async def _run_network(app: web.Application) -> AsyncIterator[None]:
    pump = asyncio.create_task(app[SIMULATOR].run())
    yield
    pump.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await pump


async def _rest(request: web.Request) -> web.StreamResponse:
    simulator = request.app[SIMULATOR]
    asked = RestRequest(
        request.method,
        request.rel_url.raw_path,
        _read_pairs(request.rel_url.raw_query_string),
        _read_pairs((await request.read()).decode("utf-8", "replace")),
        request.headers.get("Authorization"),
    )
    try:
        response = handle(simulator.catch_up(), asked)
    except Exception:
        log.exception("the simulated REST API failed on %s %s", request.method, request.path)
        response = RestResponse.error(TwilioError(500, 20500, "An internal error has occurred"))
    simulator.wake()
    if response.failed:
        return await _fail(request, response)
    return web.Response(status=response.status, headers=response.headers, body=response.body)


def _read_pairs(encoded: str) -> Params:
    return Params(parse_qsl(encoded, keep_blank_values=True))


async def _fail(request: web.Request, response: RestResponse) -> web.StreamResponse:
    """Leave a request without a whole answer: the connection is reset, at once, after a long wait or in mid-answer."""
    if response.failed == "timeout":
        await asyncio.sleep(HANG_SECONDS)
    if response.failed == "half":
        started = web.StreamResponse(status=response.status, headers=response.headers)
        started.content_length = 2 * len(response.body) + 1
        await started.prepare(request)
        await started.write(response.body)
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


@contextlib.asynccontextmanager
async def serve(config: SimulatorConfig) -> AsyncIterator[tuple[Simulator, str]]:
    """Run the server while the block lasts: the simulator and its base URL. Raises AddressInUse."""
    app = create_server(config)
    # Cancelled handlers let go of requests that are held for a client that has left.
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=2.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, config.host, config.port)
        await _start(site, config)
        host, port = runner.addresses[0][:2]
        base = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        app[SIMULATOR].network.media_base = base
        yield app[SIMULATOR], base
    finally:
        await runner.cleanup()


async def _start(site: web.TCPSite, config: SimulatorConfig) -> None:
    try:
        await site.start()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise AddressInUse(config.host, config.port) from error
        raise ConfigError(f"host: cannot listen on {config.host}:{config.port}: {error.strerror}") from error


@contextlib.contextmanager
def serve_in_thread(config: SimulatorConfig) -> Iterator[tuple[Simulator, str]]:
    """The same for code without an event loop, such as a test; touch the network through the base URL."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="simulator", daemon=True)
    thread.start()
    server = serve(config)
    try:
        running = asyncio.run_coroutine_threadsafe(server.__aenter__(), loop).result()
        try:
            yield running
        finally:
            asyncio.run_coroutine_threadsafe(server.__aexit__(None, None, None), loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def run_server(config: SimulatorConfig) -> None:
    """Serve until SIGINT or SIGTERM. Raises AddressInUse and ConfigError before anything is served."""
    asyncio.run(_serve_until_signal(config))


async def _serve_until_signal(config: SimulatorConfig) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with serve(config) as (_, base):
        print(f"simulator: {base}  controls: {base}/_simulator/", flush=True)
        await stop.wait()
