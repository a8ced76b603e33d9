/*
 * The guest's first process: boots the machine, then runs commands for the host.
 *
 * As /init of the initramfs it says when it was entered, loads the modules, mounts the image's
 * file system and moves into it, opens the virtio port named PORT_NAME, and serves frames until
 * the host hangs up. It stays PID 1, so it reaps everything; nothing else runs unless asked for.
 * Where the image's own init is to be PID 1 (distro.c), that starts it as a service at last.
 */
#define _GNU_SOURCE
#include "agent.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/random.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#define OUTPUT_HIGH_WATER (256u << 10)

/*
 * Without it a guest that has no random source of its own makes its first readers wait, and two
 * guests that were restored from one state would draw the same numbers: so it counts at once.
 */
static void seed(const char *bytes, uint32_t length)
{
    struct { struct rand_pool_info info; char bytes[256]; } pool = {
        .info = {.entropy_count = (int)length * 8, .buf_size = (int)length},
    };
    int random = open("/dev/urandom", O_WRONLY | O_CLOEXEC);

    if (length > sizeof pool.bytes)
        refuse("a seed is too long");
    memcpy(pool.bytes, bytes, length);
    if (random < 0 || ioctl(random, RNDADDENTROPY, &pool) || ioctl(random, RNDRESEEDCRNG))
        fatal("seed");
    close(random);
}

static void set_clock(const char *bytes)
{
    uint64_t now_ns;

    memcpy(&now_ns, bytes, sizeof now_ns);
    struct timespec now = {(time_t)(now_ns / 1000000000u), (long)(now_ns % 1000000000u)};
    if (clock_settime(CLOCK_REALTIME, &now) != 0)
        fatal("clock");
}

static void tell_memory(void)
{
    char text[4096];
    int file = open("/proc/meminfo", O_RDONLY | O_CLOEXEC);
    ssize_t count = read(file, text, sizeof text);

    close(file);
    send_frame(MEMINFO, 0, text, count < 0 ? 0 : (uint32_t)count);
}

static void handle(const struct header *header, char *payload)
{
    struct command *command = find(header->id);
    uint32_t number = 0;

    if (header->type == RUN)
        run(header->id, payload, header->length);
    else if (header->type == SEED)
        seed(payload, header->length);
    else if (header->type == MEMORY && header->length == 0)
        tell_memory();
    else if (header->type == SHARE)
        mount_share(payload, header->length);
    else if (header->type == CLOCK && header->length == sizeof(uint64_t)) {
        set_clock(payload);
        say_hello();
    } else if (header->type == STDIN && command)
        take_stdin(command, payload, header->length);
    else if (header->type == KILL && header->length == sizeof number) {
        memcpy(&number, payload, sizeof number);
        if (command)
            kill(-command->pid, (int)number);
    } else if (header->type != STDIN)   /* input of a command that has just ended is no error */
        refuse("a frame of unknown type or length");
}

/* Reads what is there and handles every frame that is whole. */
static void receive(void)
{
    static struct buffer incoming;
    static char bytes[32768];
    ssize_t count = read(port, bytes, sizeof bytes);
    struct header header;

    if (count == 0)
        power_off();        /* the host hung up */
    if (count < 0)
        return;
    append(&incoming, bytes, (size_t)count);
    while (incoming.used >= sizeof header) {
        memcpy(&header, incoming.bytes, sizeof header);
        if (header.magic != MAGIC || header.length > MAX_FRAME)
            refuse("what came is not a frame");
        if (incoming.used < sizeof header + header.length)
            return;
        handle(&header, incoming.bytes + sizeof header);
        consume(&incoming, sizeof header + header.length);
    }
}

static void watch(struct pollfd *slot, int descriptor, short events)
{
    *slot = (struct pollfd){events ? descriptor : -1, events, 0};
}

static void serve_command(struct command *command, const struct pollfd ready[3])
{
    if (ready[0].revents)
        feed(command);
    if (ready[1].revents)
        drain(command, &command->out, STDOUT);
    if (ready[2].revents)
        drain(command, &command->err, STDERR);
}

static _Noreturn void serve(int signals)
{
    struct pollfd ready[2 + 3 * MAX_COMMANDS];

    for (;;) {
        bool room = outgoing.used < OUTPUT_HIGH_WATER;
        watch(&ready[0], port, (short)(outgoing.used ? POLLIN | POLLOUT : POLLIN));
        watch(&ready[1], signals, room ? POLLIN : 0);
        for (int i = 0; i < MAX_COMMANDS; i++) {
            watch(&ready[2 + 3 * i], commands[i].in, commands[i].pending.used ? POLLOUT : 0);
            watch(&ready[3 + 3 * i], commands[i].out, room ? POLLIN : 0);
            watch(&ready[4 + 3 * i], commands[i].err, room ? POLLIN : 0);
        }
        if (poll(ready, sizeof ready / sizeof *ready, -1) < 0 && errno != EINTR)
            fatal("poll");
        if (ready[0].revents & POLLOUT && !flush(port, &outgoing))
            power_off();
        if (ready[0].revents & (POLLIN | POLLHUP))
            receive();
        for (int i = 0; i < MAX_COMMANDS; i++)
            if (commands[i].pid)
                serve_command(&commands[i], &ready[2 + 3 * i]);
        if (ready[1].revents)
            reap(signals);
    }
}

static int take_signals(void)
{
    sigset_t child;

    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    sigprocmask(SIG_BLOCK, &child, NULL);
    signal(SIGPIPE, SIG_IGN);
    return signalfd(-1, &child, SFD_NONBLOCK | SFD_CLOEXEC);
}

int main(int argc, char **argv)
{
    forget_commands();
    if (argc > 1 && strcmp(argv[1], SERVE_WORD) == 0)
        port = find_port();
    else {
        bool takes_over = argc > 1 && strcmp(argv[1], TAKE_OVER_WORD) == 0;
        dprintf(STDOUT_FILENO, "isoscope: init %llu\n",
                (unsigned long long)clock_ns(CLOCK_BOOTTIME));
        port = takes_over ? take_over(argv[0]) : boot();
    }
    int signals = take_signals();
    say_hello();
    serve(signals);
}
