/* Keeps what a container says: every chunk with its stream and its time, in one file.
 *
 * Freestanding like executor.c, for the same reason: one of it stays for each container. It reads
 * two pipes until the executor has ended and both are empty; what it has written is on the disk at
 * most a second later. Then it becomes the program that it was given, which tidies up.
 *
 * A frame is a header of 16 bytes (CLOCK_REALTIME in ns, stream, length; little-endian) and the
 * bytes. A full disk costs frames, never their order: what was lost is told by a LOST frame.
 *
 * Sources: ppoll(2), write(2), flock(2), execve(2), pidfd_open(2).
 */

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long u64;
typedef int i32;
typedef long i64;

/* What we are given. LOCK is held by flock(2) until all is written: others wait for that. What is
 * at LIFELINE, if anything, is closed at the end: a helper of the container ends by that. */
enum { STDOUT_PIPE, STDERR_PIPE, LOG, EXECUTOR, DIRECTORY, LOCK, LIFELINE, FIRST_FREE };
enum { OUT = 1, ERR = 2, LOST = 3, END = 4 }; /* streams; an END frame is the mark of a whole log */
enum { CHUNK_BYTES = 16384, SYNC_EVERY_S = 1 };
enum { LIMIT_BYTES = 32 << 20 }; /* then the file becomes "log.1", in place of the one before */

#if defined(__x86_64__)
enum {
    NR_read = 0, NR_write = 1, NR_close = 3, NR_lseek = 8, NR_execve = 59, NR_fdatasync = 75,
    NR_ftruncate = 77, NR_setsid = 112, NR_prctl = 157, NR_clock_gettime = 228,
    NR_exit_group = 231, NR_openat = 257, NR_renameat2 = 316, NR_ppoll = 271, NR_dup3 = 292,
    O_NOFOLLOW = 0400000,
};

static i64 call(u64 number, u64 a, u64 b, u64 c, u64 d, u64 e)
{
    i64 result;
    register u64 r10 __asm__("r10") = d;
    register u64 r8 __asm__("r8") = e;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
                     : "rcx", "r11", "memory");
    return result;
}

__asm__(".globl _start\n_start:\n\tmov %rsp, %rdi\n\txor %ebp, %ebp\n\tand $-16, %rsp\n"
        "\tcall writer\n\thlt\n");

#elif defined(__aarch64__)
enum {
    NR_dup3 = 24, NR_ftruncate = 46, NR_openat = 56, NR_close = 57, NR_lseek = 62, NR_read = 63,
    NR_write = 64, NR_ppoll = 73, NR_fdatasync = 83, NR_exit_group = 94, NR_clock_gettime = 113,
    NR_setsid = 157, NR_prctl = 167, NR_execve = 221, NR_renameat2 = 276,
    O_NOFOLLOW = 0100000,
};

static i64 call(u64 number, u64 a, u64 b, u64 c, u64 d, u64 e)
{
    register u64 x8 __asm__("x8") = number;
    register u64 x0 __asm__("x0") = a;
    register u64 x1 __asm__("x1") = b;
    register u64 x2 __asm__("x2") = c;
    register u64 x3 __asm__("x3") = d;
    register u64 x4 __asm__("x4") = e;
    __asm__ volatile("svc 0"
                     : "+r"(x0)
                     : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4)
                     : "memory");
    return (i64)x0;
}

__asm__(".globl _start\n_start:\n\tmov x0, sp\n\tmov x29, #0\n\tmov x30, #0\n\tbl writer\n\tbrk #0\n");

#else
#error "the log writer is written for x86-64 and aarch64"
#endif

enum { NR_close_range = 436 }; /* everywhere */
enum {
    POLLIN = 1, SEEK_END = 2, AT_FDCWD = -100, PR_SET_NAME = 15, EAGAIN = 11, EINTR = 4,
    CLOCK_REALTIME = 0, CLOCK_MONOTONIC = 1,
    O_RDWR = 2, O_WRONLY = 1, O_CREAT = 0100, O_TRUNC = 01000, O_APPEND = 02000, O_CLOEXEC = 02000000,
};

#define call1(n, a) call(n, (u64)(a), 0, 0, 0, 0)
#define call2(n, a, b) call(n, (u64)(a), (u64)(b), 0, 0, 0)
#define call3(n, a, b, c) call(n, (u64)(a), (u64)(b), (u64)(c), 0, 0)
#define call4(n, a, b, c, d) call(n, (u64)(a), (u64)(b), (u64)(c), (u64)(d), 0)
#define call5(n, a, b, c, d, e) call(n, (u64)(a), (u64)(b), (u64)(c), (u64)(d), (u64)(e))

struct timespec { i64 s, ns; };
struct pollfd { i32 fd; u16 events, revents; };

static struct { /* one frame, written by one call */
    u64 at_ns;
    u32 stream, bytes;
    u8 data[CHUNK_BYTES];
} frame;
enum { HEADER_BYTES = 16 };

static u64 log_bytes, lost_bytes;
static i64 dirty_since_s; /* of CLOCK_MONOTONIC; 0 if all is on the disk */

static struct timespec now(i32 clock)
{
    struct timespec at = {0, 0};
    call2(NR_clock_gettime, clock, &at);
    return at;
}

static void sync_log(void)
{
    call1(NR_fdatasync, LOG);
    dirty_since_s = 0;
}

/* The full file makes room for an empty one; if there is none to be had it goes on growing. */
static void rotate(void)
{
    sync_log();
    call5(NR_renameat2, DIRECTORY, "log", DIRECTORY, "log.1", 0);
    i64 fresh = call4(NR_openat, DIRECTORY, "log",
                      O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fresh < 0) {
        call5(NR_renameat2, DIRECTORY, "log.1", DIRECTORY, "log", 0);
        return;
    }
    call3(NR_dup3, fresh, LOG, O_CLOEXEC);
    call1(NR_close, fresh);
    log_bytes = 0;
}

/* Write the frame whole; what was written of one that does not fit is taken back. */
static int put(u32 stream, u64 bytes)
{
    struct timespec at = now(CLOCK_REALTIME);
    frame.at_ns = (u64)at.s * 1000000000ul + (u64)at.ns;
    frame.stream = stream;
    frame.bytes = (u32)bytes;
    u64 done = 0, whole = HEADER_BYTES + bytes;
    while (done < whole) {
        i64 written = call3(NR_write, LOG, (u8 *)&frame + done, whole - done);
        if (written == -EINTR)
            continue;
        if (written <= 0) {
            call2(NR_ftruncate, LOG, log_bytes);
            return 0;
        }
        done += (u64)written;
    }
    log_bytes += whole;
    if (dirty_since_s == 0)
        dirty_since_s = now(CLOCK_MONOTONIC).s;
    return 1;
}

static void keep(u32 stream, u64 bytes)
{
    if (log_bytes >= LIMIT_BYTES)
        rotate();
    if (!put(stream, bytes))
        lost_bytes += bytes;
}

/* What was lost is told as soon as there is room, before anything that came after it. */
static int tell_lost(void)
{
    if (lost_bytes == 0)
        return 1;
    u64 bytes = lost_bytes;
    for (u32 i = 0; i < sizeof bytes; i++)
        frame.data[i] = (u8)(bytes >> 8 * i);
    if (!put(LOST, sizeof bytes))
        return 0;
    lost_bytes = 0;
    return 1;
}

/* Take one chunk of a pipe; the bytes, 0 at its end, -EAGAIN if there is none now. */
static i64 take(i32 pipe, u32 stream)
{
    int has_room = tell_lost();
    i64 bytes = call3(NR_read, pipe, frame.data, CHUNK_BYTES);
    if (bytes > 0 && has_room)
        keep(stream, (u64)bytes);
    else if (bytes > 0)
        lost_bytes += (u64)bytes;
    return bytes == -EINTR ? -EAGAIN : bytes;
}

static void write_until_the_end(void)
{
    struct pollfd all[3] = {{EXECUTOR, POLLIN, 0}, {STDOUT_PIPE, POLLIN, 0}, {STDERR_PIPE, POLLIN, 0}};
    for (;;) {
        struct timespec wait = {SYNC_EVERY_S, 0};
        call5(NR_ppoll, all, 3, dirty_since_s ? &wait : 0, 0, 0);
        for (u32 i = 1; i < 3; i++)
            if (all[i].revents) {
                i64 bytes = take(all[i].fd, i == 1 ? OUT : ERR);
                if (bytes <= 0 && bytes != -EAGAIN)
                    all[i].fd = -1;
            }
        if (dirty_since_s && now(CLOCK_MONOTONIC).s - dirty_since_s >= SYNC_EVERY_S)
            sync_log();
        if (all[0].revents)
            break;
    }
    call3(NR_close_range, LIFELINE, LIFELINE, 0);
    for (u32 i = 1; i < 3; i++) /* all that could write there are dead */
        while (all[i].fd >= 0 && take(all[i].fd, i == 1 ? OUT : ERR) > 0)
            ;
    if (tell_lost())
        put(END, 0);
    sync_log();
}

__attribute__((used)) static _Noreturn void writer(u64 *stack)
{
    char **argv = (char **)(stack + 1), **variables = argv + stack[0] + 1;
    call1(NR_setsid, 0);
    call2(NR_prctl, PR_SET_NAME, "isoscope-log");
    call3(NR_close_range, FIRST_FREE, ~0u, 0);
    log_bytes = (u64)call3(NR_lseek, LOG, 0, SEEK_END);
    write_until_the_end();
    i64 nothing = call4(NR_openat, AT_FDCWD, "/dev/null", O_RDWR, 0);
    for (i32 i = 0; i < 3; i++)
        call3(NR_dup3, nothing, i, 0);
    call3(NR_close_range, 3, ~0u, 0);
    call3(NR_execve, argv[1], argv + 1, variables);
    for (;;)
        call1(NR_exit_group, 127);
}
