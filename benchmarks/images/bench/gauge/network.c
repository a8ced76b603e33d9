/* TCP on the loopback device, a server to be reached from outside, and an open-loop load. */
#include "gauge.h"
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { CHUNK = 64 << 10, ANSWERS = 64 << 10, CONNECTIONS = 16 };

static int wire;
static char chunk[CHUNK];

static void whole(int end, uint64_t bytes)
{
    while (bytes > 0) {
        ssize_t sent = write(end, chunk, bytes < CHUNK ? bytes : CHUNK);
        if (sent <= 0)
            fail("write to the connection");
        bytes -= (uint64_t)sent;
    }
}

/* A connection begins with one byte: 'e', what comes is sent back; 's', 8 bytes say how much will
 * come, and one byte answers when it is there; then again. */
static void answer(int end)
{
    char kind;
    uint64_t left;
    int on = 1;
    setsockopt(end, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (read(end, &kind, 1) != 1)
        return;
    if (kind == 'e') {
        for (ssize_t got; (got = read(end, chunk, CHUNK)) > 0;)
            whole(end, (uint64_t)got);
        return;
    }
    while (recv(end, &left, sizeof left, MSG_WAITALL) == sizeof left) {
        while (left > 0) {
            ssize_t got = read(end, chunk, left < CHUNK ? left : CHUNK);
            if (got <= 0)
                return;
            left -= (uint64_t)got;
        }
        whole(end, 1);
    }
}

static void trips(uint64_t units)
{
    char byte = 0;
    while (units-- > 0)
        if (write(wire, &byte, 1) != 1 || read(wire, &byte, 1) != 1)
            fail("round trip");
}

static void stream(uint64_t units)
{
    char byte;
    uint64_t bytes = units * CHUNK;
    if (write(wire, &bytes, sizeof bytes) != sizeof bytes)
        fail("stream");
    whole(wire, bytes);
    if (read(wire, &byte, 1) != 1)
        fail("stream");
}

static void in_mode(uint16_t port, const char *mode)
{
    wire = connected(port);
    if (wire < 0 || write(wire, mode, 1) != 1)
        fail("connect");
}

static noreturn void answer_all(int listener)
{
    signal(SIGPIPE, SIG_IGN);
    for (;;) {
        int end = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (end < 0)
            fail("accept");
        answer(end);
        close(end);
    }
}

void tcp_main(void)
{
    uint16_t port = 0;
    int listener = listening(&port);
    pid_t child = fork();
    if (child < 0)
        fail("fork");
    if (child == 0)
        answer_all(listener);
    in_mode(port, "e");
    climb("trip", 1, trips);
    close(wire);
    in_mode(port, "s");
    climb("stream", CHUNK, stream);
    close(wire);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
}

void echo_main(uint16_t port)
{
    int listener = listening(&port);
    say("listening");
    answer_all(listener);
}

static const char REQUEST[] = "GET / HTTP/1.1\r\nHost: gauge\r\n\r\n";
static const char OK[] = "HTTP/1.1 200 ", LENGTH_IS[] = "Content-Length: ";

/* One connection that is kept: what it has heard, and since when its answer is due. */
struct talk {
    int end;
    size_t heard;
    uint64_t due_ns;
    char said[ANSWERS];
};

static struct talk talks[CONNECTIONS];

/* Whether the whole answer is there. */
static int complete(struct talk *talk)
{
    ssize_t got = read(talk->end, talk->said + talk->heard, sizeof talk->said - 1 - talk->heard);
    if (got <= 0)
        fail("the server hung up");
    talk->heard += (size_t)got;
    talk->said[talk->heard] = '\0';
    char *body = strstr(talk->said, "\r\n\r\n"), *length = strstr(talk->said, LENGTH_IS);
    if (body == NULL)
        return 0;
    if (strncmp(talk->said, OK, sizeof OK - 1) != 0 || length == NULL || length > body) {
        errno = EPROTO;
        fail("not an answer with status 200 and a length");
    }
    size_t head = (size_t)(body + 4 - talk->said);
    return talk->heard >= head + strtoul(length + sizeof LENGTH_IS - 1, NULL, 10);
}

static void ask(struct talk *talk, uint64_t due_ns)
{
    talk->heard = 0;
    talk->due_ns = due_ns;
    if (write(talk->end, REQUEST, sizeof REQUEST - 1) != sizeof REQUEST - 1)
        fail("write of a request");
}

static void closed_loop(uint64_t units)
{
    while (units-- > 0) {
        ask(&talks[0], now_ns());
        while (!complete(&talks[0]))
            continue;
    }
}

/* Requests are due at fixed times, whatever became of the ones before; a latency counts from when
 * its request was due, so a stall delays all that were due in it. */
static void open_loop(uint64_t rate, uint64_t count, uint64_t *latencies)
{
    struct pollfd looks[CONNECTIONS];
    uint64_t start = now_ns(), asked = 0, answered = 0;
    while (answered < count) {
        int free_talk = -1;
        for (int i = 0; i < CONNECTIONS; i++) {
            looks[i] = (struct pollfd){.fd = talks[i].due_ns ? talks[i].end : -1, .events = POLLIN};
            if (talks[i].due_ns == 0)
                free_talk = i;
        }
        uint64_t due = start + asked * NS_PER_S / rate, now = now_ns();
        if (asked < count && free_talk >= 0 && now >= due) {
            ask(&talks[free_talk], due);
            asked++;
            continue;
        }
        struct timespec wait = {.tv_sec = 3600};
        if (asked < count && free_talk >= 0)
            wait = (struct timespec){.tv_sec = (time_t)((due - now) / NS_PER_S),
                                     .tv_nsec = (long)((due - now) % NS_PER_S)};
        if (ppoll(looks, CONNECTIONS, &wait, NULL) < 0)
            fail("ppoll");
        for (int i = 0; i < CONNECTIONS; i++)
            if (looks[i].revents != 0 && complete(&talks[i])) {
                latencies[answered++] = now_ns() - talks[i].due_ns;
                talks[i].due_ns = 0;
            }
    }
    told("offered_ns", count * NS_PER_S / rate);
    told_work("answered", count, now_ns() - start);
}

void load_main(uint16_t port, uint64_t rate, uint64_t seconds)
{
    uint64_t count = rate * seconds, *latencies = calloc(count, sizeof *latencies);
    if (latencies == NULL)
        fail("calloc");
    for (int i = 0; i < CONNECTIONS; i++)
        if ((talks[i].end = connected(port)) < 0)
            fail("connect");
    climb("closed", 1, closed_loop);
    talks[0].due_ns = 0;
    open_loop(rate, count, latencies);
    quantiles(latencies, count);
}
