/* Clock, ladder, lines and sockets: what every gauge shares. */
#include "gauge.h"
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

uint64_t now_ns(void)
{
    struct timespec now;
    if (clock_gettime(CLOCK_MONOTONIC, &now) != 0)
        fail("clock_gettime");
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

void sleep_until(uint64_t at_ns)
{
    struct timespec at = {.tv_sec = (time_t)(at_ns / NS_PER_S), .tv_nsec = (long)(at_ns % NS_PER_S)};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) == EINTR)
        continue;
}

void climb(const char *name, uint64_t scale, work_fn *work)
{
    for (uint64_t units = 1;; units *= 4) {
        uint64_t start = now_ns();
        work(units);
        uint64_t took = now_ns() - start;
        if (took >= ENOUGH_NS || units >= (1ULL << 40)) {
            told_work(name, units * scale, took);
            return;
        }
    }
}

void told_work(const char *name, uint64_t units, uint64_t ns)
{
    printf("work %s %llu %llu\n", name, (unsigned long long)units, (unsigned long long)ns);
}

void told(const char *name, uint64_t value)
{
    printf("read %s %llu\n", name, (unsigned long long)value);
}

static int ascending(const void *left, const void *right)
{
    uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
    return (a > b) - (a < b);
}

void quantiles(uint64_t *values, uint64_t count)
{
    qsort(values, count, sizeof *values, ascending);
    told("p50_ns", values[(count - 1) * 50 / 100]);
    told("p95_ns", values[(count - 1) * 95 / 100]);
    told("most_ns", values[count - 1]);
}

void say(const char *word)
{
    puts(word);
    if (fflush(stdout) != 0)
        fail("write");
}

noreturn void fail(const char *what)
{
    fprintf(stderr, "gauge: %s: %s\n", what, strerror(errno));
    exit(1);
}

uint64_t number(const char *text, uint64_t most)
{
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (errno != 0 || *text == '\0' || *end != '\0' || value == 0 || value > most) {
        fprintf(stderr, "gauge: %s is no number from 1 to %llu\n", text, (unsigned long long)most);
        exit(2);
    }
    return value;
}

uint64_t mixed(uint64_t state)
{
    state ^= state << 13;
    state ^= state >> 7;
    return state ^ state << 17;
}

int listening(uint16_t *port)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(*port)};
    at.sin_addr.s_addr = htonl(*port == 0 ? INADDR_LOOPBACK : INADDR_ANY);
    socklen_t length = sizeof at;
    int on = 1, end = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (end < 0 || setsockopt(end, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0)
        fail("socket");
    if (bind(end, (struct sockaddr *)&at, sizeof at) != 0 || listen(end, 64) != 0)
        fail("listen");
    if (getsockname(end, (struct sockaddr *)&at, &length) != 0)
        fail("getsockname");
    *port = ntohs(at.sin_port);
    return end;
}

int connected(uint16_t port)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port)};
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int on = 1, end = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (end < 0)
        fail("socket");
    if (connect(end, (struct sockaddr *)&at, sizeof at) != 0) {
        close(end);
        return -1;
    }
    if (setsockopt(end, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0)
        fail("setsockopt");
    return end;
}
