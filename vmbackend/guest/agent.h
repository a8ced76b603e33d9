/*
 * The guest's first process, and how it speaks to the host.
 *
 * Protocol, version 1 (vmbackend/channel.py is the other half). A frame is a header of 24 bytes,
 * little-endian, then `length` bytes:
 *
 *     u32 magic "ISO1" | u32 type | u32 id (of a command) | u32 length | u64 CLOCK_MONOTONIC ns
 *
 *   host to guest    RUN    u32 uid, gid, ngroups, argc, envc; u32 groups[]; then strings, each
 *                           ended by NUL: cwd, argv[], env[]
 *                    STDIN  bytes; none of them: end of file
 *                    KILL   u32 signal, sent to the command's process group
 *                    SEED   bytes for the kernel's random number generator, credited in full
 *                    CLOCK  u64 CLOCK_REALTIME ns, to be set; answered by HELLO. A guest that was
 *                           restored learns by it that time has passed
 *                    SHARE  two strings, each ended by NUL: the tag of a virtiofs and where to
 *                           mount it. Comes before the first RUN
 *                    MEMORY nothing; answered by MEMINFO
 *   guest to host    HELLO  u32 version; u64 CLOCK_BOOTTIME ns
 *                    STARTED execve succeeded     FAILED u32 errno, then the call that failed
 *                    STDOUT, STDERR bytes         CREDIT u32 bytes of STDIN that were passed on
 *                    EXITED u32 status, 128+n for signal n; no frame of this id follows
 *                    ERROR  text; the guest powers off
 *                    MEMINFO the beginning of /proc/meminfo
 *
 * The host may have STDIN_WINDOW bytes of a command's STDIN on their way; CREDIT returns them.
 * A command's output ends with its own process: what its orphans write later is dropped.
 */
#ifndef AGENT_H
#define AGENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#define SERVE_WORD "serve"      /* argv[1] of this program where it is not the first process */
#define TAKE_OVER_WORD "take-over"  /* ... and where another initrd has started the machine */
#define PORT_NAME "isoscope.0"
#define VERSION 1
#define MAGIC 0x314f5349u
#define MAX_FRAME (4u << 20)
#define MAX_COMMANDS 64
#define STDIN_WINDOW (256u << 10)

enum type {
    RUN = 1, STDIN, KILL, SEED, CLOCK, SHARE, MEMORY,
    HELLO = 16, STARTED, FAILED, STDOUT, STDERR, CREDIT, EXITED, ERROR, MEMINFO,
};

struct header {
    uint32_t magic, type, id, length;
    uint64_t time_ns;
};

struct buffer {
    char *bytes;
    size_t used, size;
};

struct command {
    uint32_t id;
    pid_t pid;          /* 0: this slot is free */
    int in, out, err;   /* our ends of its pipes; -1: closed */
    bool in_ended;
    struct buffer pending;
};

/* boot.c: from the first instruction of PID 1 to a machine that can run commands. */
int take_over(const char *self);    /* gives the open port; *self* is removed */
int boot(void);                     /* gives the open port, unless the image has its own init */
int find_port(void);

/* distro.c: hand the machine over; *self* is this program, open. Returns only by failing. */
void become_init(const char *path, int self);

/* share.c: directories of the host. */
void mount_share(char *payload, uint32_t length);

/* network.c: the addresses that the kernel's command line names, if it names any. */
void bring_up_network(void);

/* wire.c: bytes to the host, and the two ways to end. */
extern int port;
extern struct buffer outgoing;
uint64_t clock_ns(clockid_t clock);
void append(struct buffer *buffer, const void *bytes, size_t count);
void consume(struct buffer *buffer, size_t count);
bool flush(int to, struct buffer *buffer);
void send_frame(enum type type, uint32_t id, const void *payload, uint32_t length);
void say_hello(void);
_Noreturn void power_off(void);
_Noreturn void fatal(const char *format, ...) __attribute__((format(printf, 1, 2)));
_Noreturn void refuse(const char *why);

/* commands.c: what runs for the host. */
extern struct command commands[MAX_COMMANDS];
void forget_commands(void);
struct command *find(uint32_t id);
void make_directories(char *path);
void run(uint32_t id, char *payload, uint32_t length);
void take_stdin(struct command *command, const char *bytes, uint32_t length);
void feed(struct command *command);
bool drain(struct command *command, int *end, enum type type);
void reap(int signals);

#endif
