"""The gRPC server: grpcio's synchronous one, with containerd's limits and its answers to unknown names.

Clauses PLG-030, PLG-059, DMN-066 to DMN-068.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from typing import Any, Protocol

import grpc

LIBRARY_LIMIT = 4 << 20
"""What a size of zero or less stands for, in bytes: gRPC's own default."""


class CallObserver(Protocol):
    """Sees one call; made when it starts (with service, method and kind)."""

    def received(self) -> None:
        """A message came in."""
        ...

    def sent(self) -> None:
        """A message goes out."""
        ...

    def ended(self, code: str) -> None:
        """The call is over, with this status (``OK``, ``NotFound``)."""
        ...


Observe = Callable[[str, str, str], CallObserver]
"""Makes an observer for a call: service, method, and kind as the metrics name it."""

Register = Callable[[grpc.Server], None]
"""What a plugin does with a server (``GRPCService.register_grpc``)."""

Services = dict[str, dict[str, Any]]
"""Method handlers by service and method name."""


def build(
    register: Iterable[Register],
    pool: Executor,
    receive: int,
    send: int,
    observe: Observe | None = None,
    interceptors: Sequence[grpc.ServerInterceptor] = (),
) -> tuple[grpc.Server, Services]:
    """A server with the services of all plugins that want to be on it, without an address.

    Args:
        pool: where calls run.
        receive, send: largest messages in bytes; zero or less for gRPC's own limit.
        observe: called for each call of a known method; None for nobody.
        interceptors: what calls pass through, outermost first, inside of what the observer sees.

    Returns:
        The server, and all that is on it.
    """
    options = (
        ("grpc.max_receive_message_length", receive if receive > 0 else LIBRARY_LIMIT),
        ("grpc.max_send_message_length", send if send > 0 else LIBRARY_LIMIT),
        # Two servers that share a port would share clients by chance.
        ("grpc.so_reuseport", 0),
    )
    services: Services = {}
    watch = [_Watch(observe, services)] if observe is not None else []
    # The stubs ask for the standard library's pool; the server only ever submits.
    server = grpc.server(pool, options=options, interceptors=[*watch, *interceptors])  # type: ignore[arg-type]
    registrar = _Registrar(server, services)
    for call in register:
        call(registrar)
    server.add_generic_rpc_handlers((_Unknown(services),))
    return server, services


class _Registrar(grpc.Server):
    """Passes services on to the real server and remembers their names, which grpcio does not tell."""

    def __init__(self, server: grpc.Server, services: Services) -> None:
        self._server, self._services = server, services

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Any) -> None:
        self._server.add_generic_rpc_handlers(generic_rpc_handlers)

    def add_registered_method_handlers(self, service_name: str, method_handlers: Any) -> None:
        self._services[service_name] = dict(method_handlers)
        self._server.add_registered_method_handlers(service_name, method_handlers)

    def _mine(self, *_: object, **__: object) -> Any:
        raise AssertionError("a plugin puts services on the server; addresses and the start are the daemon's")

    add_insecure_port = add_secure_port = start = stop = wait_for_termination = _mine


class _Unknown(grpc.GenericRpcHandler):
    """The last handler: refuses in containerd's words what no other one knows."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any]:
        service, _, method = handler_call_details.method.removeprefix("/").rpartition("/")
        if service in self._services:
            text = f"unknown method {method} for service {service}"
        else:
            text = f"unknown service {service}"

        def refuse(_requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
            context.abort(grpc.StatusCode.UNIMPLEMENTED, text)

        # A stream on both sides fits every client, unary ones too.
        return grpc.stream_stream_rpc_method_handler(refuse)


def kind_of(handler: grpc.RpcMethodHandler[Any, Any]) -> str:
    """How many messages a method takes and gives, in the words of the Go metrics."""
    if handler.request_streaming:
        return "bidi_stream" if handler.response_streaming else "client_stream"
    return "server_stream" if handler.response_streaming else "unary"


class _Watch(grpc.ServerInterceptor):
    """Shows every call of a known method to an observer."""

    def __init__(self, observe: Observe, services: Services) -> None:
        self._observe, self._services = observe, services

    def intercept_service(self, continuation: Any, handler_call_details: grpc.HandlerCallDetails) -> Any:
        handler = continuation(handler_call_details)
        service, _, method = handler_call_details.method.removeprefix("/").rpartition("/")
        if handler is None or method not in self._services.get(service, {}):
            return handler
        return _watched(handler, lambda: self._observe(service, method, kind_of(handler)))


def _watched(handler: Any, start: Callable[[], CallObserver]) -> grpc.RpcMethodHandler[Any, Any]:
    def incoming(request: Any, observer: CallObserver) -> Any:
        if not handler.request_streaming:
            observer.received()
            return request
        return _counted(request, observer.received)

    def one(request: Any, context: Any) -> Any:
        observer = start()
        try:
            answer = behaviour(incoming(request, observer), context)
            observer.sent()
            return answer
        finally:
            observer.ended(_code(context))

    def many(request: Any, context: Any) -> Iterator[Any]:
        observer = start()
        try:
            yield from _counted(behaviour(incoming(request, observer), context), observer.sent)
        finally:
            observer.ended(_code(context))

    behaviour = behaviour_of(handler)
    return with_behaviour(handler, many if handler.response_streaming else one)


def behaviour_of(handler: Any) -> Callable[[Any, Any], Any]:
    """The function behind a method: takes a request (or an iterator of them) and the servicer context."""
    behaviour: Callable[[Any, Any], Any] = getattr(handler, _shape(handler))
    return behaviour


def with_behaviour(handler: Any, behaviour: Callable[[Any, Any], Any]) -> grpc.RpcMethodHandler[Any, Any]:
    """The same method with another function behind it."""
    make = getattr(grpc, f"{_shape(handler)}_rpc_method_handler")
    made: grpc.RpcMethodHandler[Any, Any] = make(behaviour, handler.request_deserializer, handler.response_serializer)
    return made


def _shape(handler: grpc.RpcMethodHandler[Any, Any]) -> str:
    """How grpcio names a method's kind in its attributes and functions."""
    return f"{'stream' if handler.request_streaming else 'unary'}_{'stream' if handler.response_streaming else 'unary'}"


def _counted(messages: Iterator[Any], count: Callable[[], None]) -> Iterator[Any]:
    for message in messages:
        count()
        yield message


def _code(context: Any) -> str:
    code = context.code()
    if code is None:
        return "OK" if context.is_active() else "Canceled"
    return name_of(code)


def name_of(code: grpc.StatusCode) -> str:
    """A status in Go's spelling, such as ``NotFound``."""
    name = str(code.name)
    return {"OK": "OK", "CANCELLED": "Canceled"}.get(name, name.title().replace("_", ""))
