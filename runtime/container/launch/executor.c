/* Runs a flat program of kernel calls, and stays as the parent of what it made.
 *
 * Freestanding: no libc, no memory of its own but a stack and a page, so that nothing of whoever
 * started it can be reached from inside a container, and so that staying costs next to nothing.
 * The program is made by program.py, which names every field; descriptors are laid out there too.
 *
 * One life: map the program, clone, and tell the owner which process it became. Then wait for the
 * first of two things. The process ends: reap it, tell the owner its status, write it down where
 * that was asked for, end. The owner goes: kill the process and end, unless it said "keep".
 *
 * Sources: clone(2), pidfd_open(2), unix(7) for SCM_RIGHTS, proc(5), elf(5).
 */

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long u64;
typedef int i32;
typedef long i64;

#define RECORD_ARGS 6
#define RECORD_ALLOWED 3
#define NO_SLOT 0xFF

struct record { /* one kernel call; a step is one of them, or several */
    u32 number, step;
    u64 args[RECORD_ARGS];
    u8 slots[RECORD_ARGS], opens, skip; /* skip: so many records more, if it failed as allowed */
    u16 allowed[RECORD_ALLOWED], marked;
    u64 returned_ns;
};

struct header {
    u64 magic, clone_flags, joins, insides, relocations, relocations_at, data_at, flags;
    i64 failed_part, failed_step, failed_errno; /* from here on written, never read, by us */
    i32 pid, unused;
    u64 engine_ns, cloned_ns;
};

enum { JOIN, INSIDE, CLONE }; /* failed_part */
/* Descriptors: given up to DIRECTORY; then our own process's, by which a child sees whether we
 * still live, and the owner's, because a fork of it may hold its socket open when it has gone. */
enum { STATUS = 3, INIT, GATE, CONSOLE, PROGRAM, OWNER, DIRECTORY, SELF, MAKER, FIRST_FREE };
enum { DIES_WITH_US = 1, WRITES_ITS_END = 2 }; /* flags */
enum { NOT_STARTED = 127, KILLED = 137 };

#if defined(__x86_64__)
enum {
    NR_write = 1, NR_close = 3, NR_lseek = 8, NR_mmap = 9, NR_munmap = 11, NR_sigprocmask = 14,
    NR_getpid = 39, NR_getppid = 110, NR_sendmsg = 46, NR_recvfrom = 45, NR_clone = 56, NR_wait4 = 61,
    NR_fsync = 74, NR_chdir = 80, NR_dup3 = 292, NR_setsid = 112, NR_prctl = 157, NR_clock_gettime = 228,
    NR_exit_group = 231, NR_openat = 257, NR_renameat2 = 316, NR_ppoll = 271,
};

static i64 call(u64 number, u64 a, u64 b, u64 c, u64 d, u64 e, u64 f)
{
    i64 result;
    register u64 r10 __asm__("r10") = d;
    register u64 r8 __asm__("r8") = e;
    register u64 r9 __asm__("r9") = f;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}

__asm__(".globl _start\n_start:\n\txor %ebp, %ebp\n\tand $-16, %rsp\n\tcall executor\n\thlt\n");

#elif defined(__aarch64__)
enum {
    NR_dup3 = 24, NR_chdir = 49, NR_openat = 56, NR_close = 57, NR_lseek = 62, NR_write = 64, NR_ppoll = 73,
    NR_fsync = 82, NR_exit_group = 94, NR_clock_gettime = 113, NR_sigprocmask = 135,
    NR_setsid = 157, NR_prctl = 167, NR_getpid = 172, NR_getppid = 173, NR_recvfrom = 207, NR_sendmsg = 211,
    NR_munmap = 215, NR_clone = 220, NR_mmap = 222, NR_wait4 = 260, NR_renameat2 = 276,
};

static i64 call(u64 number, u64 a, u64 b, u64 c, u64 d, u64 e, u64 f)
{
    register u64 x8 __asm__("x8") = number;
    register u64 x0 __asm__("x0") = a;
    register u64 x1 __asm__("x1") = b;
    register u64 x2 __asm__("x2") = c;
    register u64 x3 __asm__("x3") = d;
    register u64 x4 __asm__("x4") = e;
    register u64 x5 __asm__("x5") = f;
    __asm__ volatile("svc 0"
                     : "+r"(x0)
                     : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
                     : "memory");
    return (i64)x0;
}

__asm__(".globl _start\n_start:\n\tmov x29, #0\n\tmov x30, #0\n\tbl executor\n\tbrk #0\n");

#else
#error "the executor is written for x86-64 and aarch64"
#endif

enum { NR_pidfd_send_signal = 424, NR_pidfd_open = 434, NR_close_range = 436 }; /* everywhere */

enum {
    SIGKILL = 9, SIGCHLD = 17, POLLIN = 1, SEEK_END = 2, AT_FDCWD = -100,
    PROT_READ_WRITE = 3, MAP_SHARED = 1, SIG_SETMASK = 2, WALL = 0x40000000,
    PR_SET_PDEATHSIG = 1, PR_SET_DUMPABLE = 4, PR_SET_NAME = 15,
    CLOCK_REALTIME = 0, CLOCK_MONOTONIC = 1,
    MSG_DONTWAIT = 0x40, MSG_NOSIGNAL = 0x4000, SOL_SOCKET = 1, SCM_RIGHTS = 1,
    O_WRONLY = 1, O_CREAT = 0100, O_TRUNC = 01000, O_CLOEXEC = 02000000,
#if defined(__x86_64__)
    O_NOFOLLOW = 0400000,
#else
    O_NOFOLLOW = 0100000,
#endif
};
#define CLONE_PARENT 0x00008000ul
#define CLONE_PARENT_SETTID 0x00100000ul

#define call0(n) call(n, 0, 0, 0, 0, 0, 0)
#define call1(n, a) call(n, (u64)(a), 0, 0, 0, 0, 0)
#define call2(n, a, b) call(n, (u64)(a), (u64)(b), 0, 0, 0, 0)
#define call3(n, a, b, c) call(n, (u64)(a), (u64)(b), (u64)(c), 0, 0, 0)
#define call4(n, a, b, c, d) call(n, (u64)(a), (u64)(b), (u64)(c), (u64)(d), 0, 0)
#define call5(n, a, b, c, d, e) call(n, (u64)(a), (u64)(b), (u64)(c), (u64)(d), (u64)(e), 0)

struct timespec { i64 s, ns; };
struct pollfd { i32 fd; u16 events, revents; };

static i32 slots[NO_SLOT];
static i32 owner = OWNER;
static int is_kept; /* the owner may go and the process goes on */
static i32 maker = MAKER;

static _Noreturn void leave(i32 status)
{
    for (;;)
        call1(NR_exit_group, status);
}

static u64 now_ns(i32 clock)
{
    struct timespec at = {0, 0};
    call2(NR_clock_gettime, clock, &at);
    return (u64)at.s * 1000000000ul + (u64)at.ns;
}

static int is_readable(i32 fd)
{
    struct timespec none = {0, 0};
    struct pollfd one = {fd, POLLIN, 0};
    return call4(NR_ppoll, &one, 1, &none, 0) > 0;
}

/* ---- in the clone ---- */

static _Noreturn void fail(struct header *program, i64 part, i64 step, i64 result)
{
    program->failed_errno = -result;
    program->failed_part = part;
    program->failed_step = step;
    leave(NOT_STARTED);
}

static int is_allowed(const struct record *record, i64 result)
{
    for (u32 i = 0; i < RECORD_ALLOWED; i++)
        if (record->allowed[i] && (i64)record->allowed[i] == -result)
            return 1;
    return 0;
}

static u64 argument(const struct record *record, u32 i)
{
    u8 slot = record->slots[i];
    return slot == NO_SLOT ? record->args[i] : (u64)slots[slot];
}

static void run(struct header *program, struct record *records, u64 count, i64 part)
{
    for (u64 i = 0; i < count; i++) {
        struct record *r = &records[i];
        i64 result = call(r->number, argument(r, 0), argument(r, 1), argument(r, 2),
                          argument(r, 3), argument(r, 4), argument(r, 5));
        if (result < 0 && result > -4096) {
            if (!is_allowed(r, result))
                fail(program, part, r->step, result);
            i += r->skip;
        } else if (r->opens != NO_SLOT) {
            slots[r->opens] = (i32)result;
        }
        if (r->marked)
            r->returned_ns = now_ns(CLOCK_MONOTONIC);
    }
}

static void die_with_us(const struct header *program)
{
    if (!(program->flags & DIES_WITH_US))
        return;
    call2(NR_prctl, PR_SET_PDEATHSIG, SIGKILL);
    if (is_readable(SELF))
        leave(KILLED); /* we died before the child could ask for that */
}

static _Noreturn void become(struct header *program, struct record *insides)
{
    u64 none = 0;
    die_with_us(program);
    call3(NR_close_range, PROGRAM, ~0u, 0);
    call4(NR_sigprocmask, SIG_SETMASK, &none, 0, sizeof none);
    run(program, insides, program->insides, INSIDE);
    leave(NOT_STARTED);
}

static _Noreturn void enter(struct header *program, struct record *joins)
{
    die_with_us(program);
    run(program, joins, program->joins, JOIN);
    i64 pid = call3(NR_clone, program->clone_flags | CLONE_PARENT | CLONE_PARENT_SETTID | SIGCHLD,
                    0, &program->pid);
    if (pid == 0) {
        call1(NR_close, INIT);
        become(program, joins + program->joins);
    }
    if (pid < 0)
        fail(program, CLONE, 0, pid);
    leave(0);
}

/* ---- in the executor ---- */

static void kill_it(i32 pidfd)
{
    call4(NR_pidfd_send_signal, pidfd, SIGKILL, 0, 0);
}

static void tell(i32 value, i32 pidfd)
{
    struct { u64 bytes; i32 level, type, fd, unused; } rights =
        {20, SOL_SOCKET, SCM_RIGHTS, pidfd, 0};
    struct { void *base; u64 bytes; } part = {&value, sizeof value};
    struct { void *name; u64 name_bytes; void *parts; u64 count; void *control;
             u64 control_bytes, flags; } message =
        {0, 0, &part, 1, pidfd < 0 ? 0 : &rights, pidfd < 0 ? 0 : sizeof rights, 0};
    if (owner >= 0)
        call3(NR_sendmsg, owner, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void owner_went(i32 pidfd)
{
    call1(NR_close, owner);
    call1(NR_close, maker);
    owner = maker = -1;
    if (!is_kept)
        kill_it(pidfd);
}

/* What the owner says: "K", keep it when I go; "L", leave it to whoever adopts orphans. */
static void listen_to_owner(i32 pidfd)
{
    u8 word = 0;
    i64 bytes = call4(NR_recvfrom, owner, &word, 1, MSG_DONTWAIT);
    if (bytes == 1 && word == 'L')
        leave(0);
    if (bytes == 1 && word == 'K')
        is_kept = 1;
    if (bytes == 1 || bytes == -11 /* EAGAIN */ || bytes == -4 /* EINTR */)
        return;
    owner_went(pidfd);
}

/* Wait until the process of pidfd has ended, and reap it; its status as a shell gives it. */
static i32 end_of(i32 pid, i32 pidfd)
{
    i32 raw = 0;
    for (;;) {
        struct pollfd all[3] = {{pidfd, POLLIN, 0}, {owner, POLLIN, 0}, {maker, POLLIN, 0}};
        call4(NR_ppoll, all, 3, 0, 0);
        if (all[0].revents)
            break;
        if (all[1].revents)
            listen_to_owner(pidfd);
        else if (all[2].revents)
            owner_went(pidfd);
    }
    call4(NR_wait4, pid, &raw, WALL, 0);
    return raw & 0x7F ? 128 + (raw & 0x7F) : raw >> 8 & 0xFF;
}

static char *append(char *at, const char *text)
{
    while (*text)
        *at++ = *text++;
    return at;
}

static char *append_number(char *at, u64 number)
{
    char digits[20];
    u32 count = 0;
    do
        digits[count++] = (char)('0' + number % 10);
    while (number /= 10);
    while (count)
        *at++ = digits[--count];
    return at;
}

/* Whole or not at all, and there after a crash: a temporary name, fsync, rename, fsync. */
static void write_down(i32 status)
{
    char text[96];
    char *end = append_number(append(text, "{\"exit_status\": "), (u64)status);
    end = append_number(append(end, ", \"ended_ns\": "), now_ns(CLOCK_REALTIME));
    end = append(end, "}\n");
    i64 file = call4(NR_openat, DIRECTORY, ".end.json",
                     O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (file < 0)
        return;
    i64 written = call3(NR_write, file, text, end - text);
    if (written == end - text && call1(NR_fsync, file) == 0) {
        call5(NR_renameat2, DIRECTORY, ".end.json", DIRECTORY, "end.json", 0);
        call1(NR_fsync, DIRECTORY);
    }
}

static void hold(i64 fd, i32 place)
{
    call3(NR_dup3, fd, place, O_CLOEXEC);
    call1(NR_close, fd);
}

static void prepare(struct header *program)
{
    u64 all = ~0ul;
    const u64 *at = (const u64 *)((u8 *)program + program->relocations_at);
    for (u64 i = 0; i < program->relocations; i++)
        *(u64 *)((u8 *)program + at[i]) += (u64)program + program->data_at;
    call4(NR_sigprocmask, SIG_SETMASK, &all, 0, sizeof all);
    call0(NR_setsid);
    call2(NR_prctl, PR_SET_DUMPABLE, 0);
    call2(NR_prctl, PR_SET_NAME, "isoscope");
    call1(NR_close, PROGRAM);
    call3(NR_close_range, SELF, ~0u, 0);
    hold(call2(NR_pidfd_open, call0(NR_getpid), 0), SELF);
    hold(call2(NR_pidfd_open, call0(NR_getppid), 0), MAKER);
}

/* The process that the program made, our child; 0 if there is none. */
static i32 make(struct header *program)
{
    struct record *records = (struct record *)(program + 1);
    i64 pid;
    if (program->joins == 0) {
        pid = call3(NR_clone, program->clone_flags | CLONE_PARENT_SETTID | SIGCHLD, 0,
                    &program->pid);
        if (pid == 0)
            become(program, records);
    } else {
        pid = call3(NR_clone, SIGCHLD, 0, 0);
        if (pid == 0)
            enter(program, records);
    }
    if (pid < 0)
        fail(program, CLONE, 0, pid);
    call3(NR_close_range, 0, PROGRAM, 0);
    if (program->joins) {
        i32 pidfd = (i32)call2(NR_pidfd_open, pid, 0);
        end_of((i32)pid, pidfd);
        call1(NR_close, pidfd);
    }
    program->cloned_ns = now_ns(CLOCK_MONOTONIC);
    return program->pid;
}

__attribute__((used)) static _Noreturn void executor(void)
{
    i64 bytes = call3(NR_lseek, PROGRAM, 0, SEEK_END);
    i64 at = call(NR_mmap, 0, (u64)bytes, PROT_READ_WRITE, MAP_SHARED, PROGRAM, 0);
    if (bytes <= 0 || (at < 0 && at > -4096))
        leave(NOT_STARTED);
    struct header *program = (struct header *)at;
    program->engine_ns = now_ns(CLOCK_MONOTONIC);
    prepare(program);
    i32 pid = make(program);
    u64 flags = program->flags;
    call2(NR_munmap, program, bytes);
    call1(NR_chdir, "/");
    if (pid == 0)
        leave(NOT_STARTED);
    i32 pidfd = (i32)call2(NR_pidfd_open, pid, 0);
    if (owner < 0)
        kill_it(pidfd); /* it went while the container was entered */
    tell(pid, pidfd);
    i32 status = end_of(pid, pidfd);
    if (flags & WRITES_ITS_END)
        write_down(status);
    tell(status, -1);
    leave(0);
}
