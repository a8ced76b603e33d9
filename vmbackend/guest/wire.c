/* Frames on their way to the host, and the two ways to end: power off, and say why first. */
#define _GNU_SOURCE
#include "agent.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/reboot.h>
#include <termios.h>
#include <unistd.h>

int port = -1;
struct buffer outgoing;

_Noreturn void power_off(void)
{
    reboot(RB_AUTOBOOT);    /* reboot=t on the command line and -no-reboot: the VMM exits */
    for (;;)
        pause();
}

_Noreturn void fatal(const char *format, ...)
{
    va_list arguments;
    int error = errno;

    va_start(arguments, format);
    dprintf(STDOUT_FILENO, "isoscope: fatal: ");
    vdprintf(STDOUT_FILENO, format, arguments);
    dprintf(STDOUT_FILENO, ": %s\n", strerror(error));
    va_end(arguments);
    tcdrain(STDOUT_FILENO);
    power_off();
}

uint64_t clock_ns(clockid_t clock)
{
    struct timespec now;

    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void append(struct buffer *buffer, const void *bytes, size_t count)
{
    if (buffer->used + count > buffer->size) {
        buffer->size = 2 * (buffer->used + count);
        buffer->bytes = realloc(buffer->bytes, buffer->size);
        if (!buffer->bytes)
            fatal("memory for %zu bytes", buffer->size);
    }
    memcpy(buffer->bytes + buffer->used, bytes, count);
    buffer->used += count;
}

void consume(struct buffer *buffer, size_t count)
{
    buffer->used -= count;
    memmove(buffer->bytes, buffer->bytes + count, buffer->used);
}

/* Passes on what the descriptor takes now. False: its other end is gone. */
bool flush(int to, struct buffer *buffer)
{
    ssize_t written = buffer->used ? write(to, buffer->bytes, buffer->used) : 0;

    if (written > 0)
        consume(buffer, (size_t)written);
    return written >= 0 || errno == EAGAIN || errno == EINTR;
}

void send_frame(enum type type, uint32_t id, const void *payload, uint32_t length)
{
    struct header header = {MAGIC, type, id, length, clock_ns(CLOCK_MONOTONIC)};

    append(&outgoing, &header, sizeof header);
    append(&outgoing, payload, length);
    if (!flush(port, &outgoing))
        power_off();
}

void say_hello(void)
{
    struct { uint32_t version; uint64_t boottime_ns; } __attribute__((packed)) hello = {
        VERSION, clock_ns(CLOCK_BOOTTIME),
    };

    send_frame(HELLO, 0, &hello, sizeof hello);
}

_Noreturn void refuse(const char *why)
{
    send_frame(ERROR, 0, why, (uint32_t)strlen(why));
    for (int tries = 0; outgoing.used && tries < 1000; tries++) {
        poll(NULL, 0, 1);
        flush(port, &outgoing);
    }
    power_off();
}
