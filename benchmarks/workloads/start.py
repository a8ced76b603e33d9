"""start: from the request until a program, an interpreter, a server or a database is of use.

The first byte of output is the event: a program prints it when it is ready, a server's is printed
by gauge once it has answered. Warm: what is read was read before; ``start.cold`` drops what the
machine has cached first, and what a guest has cached it has not after a boot.
"""

from benchmarks.workloads.cold import Cold
from benchmarks.workloads.printed import word
from benchmarks.workloads.program import Program, of_phases

_FROM_OUTSIDE = (
    "the harness and the host's load are part of the time",
    "the rootfs of the host is one directory, of a container an overlay, of a machine a disk",
)
_POLLED = "gauge asks every millisecond whether the server answers"

NGINX = """\
d=$(mktemp -d) && trap 'rm -r "$d"' EXIT && p=$(gauge port) && head -c 612 {text} >$d/index.html &&
cat >$d/conf <<END &&
daemon off; master_process off; pid $d/pid; worker_rlimit_nofile 1000;
events {{}}
http {{ access_log off; keepalive_requests 1000000000;
client_body_temp_path $d; proxy_temp_path $d; fastcgi_temp_path $d; uwsgi_temp_path $d;
scgi_temp_path $d; server {{ listen 127.0.0.1:$p; root $d; }} }}
END
gauge serve http $p nginx -c $d/conf -e stderr""".format(text="/usr/local/share/gauge/text")
"""A server of one page of 612 bytes, on loopback, in one process."""

REDIS = (
    "p=$(gauge port) && gauge serve redis $p redis-server --port $p --bind 127.0.0.1"
    " --save '' --appendonly no --daemonize no"
)
"""A server that keeps all in memory."""


def _start(name: str, what: str, script: str, said: str, *threats: str) -> Program:
    return Program(
        name=f"start.{name}",
        question=f"How long after the request {what}?",
        threats=(*_FROM_OUTSIDE, *threats),
        script=script,
        parse=word(said),
        readings=(
            of_phases(f"start.{name}", "request", "output", f"Start until {what}"),
            of_phases(f"start.{name}.exit", "request", "exit", f"The same until {name} has ended"),
        ),
        identity="last",
    )


WARM = (
    _start("command", "a bare command has spoken", "echo ready", "ready",
           "echo is built into the shell, so this is the shell's start"),
    _start("shell", "bash has spoken", "bash -c 'echo ready'", "ready"),
    _start("python", "a Python program has spoken", "python3 -c 'print(\"ready\", flush=True)'",
           "ready", "compiled modules lie beside the sources on no backend"),
    _start("sqlite", "a query has been answered", "sqlite3 :memory: \"select 'ready'\"", "ready"),
    _start("redis", "a server has answered PING", REDIS, "ready", _POLLED),
    _start("nginx", "a server has answered with status 200", NGINX, "ready", _POLLED),
)  # fmt: skip

COLD = tuple(Cold(program=program) for program in WARM if program.name.endswith("python"))
"""Once is enough: an interpreter reads more files than the others, and dropping caches disturbs
whoever else is on the machine."""
