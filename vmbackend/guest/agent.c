/*
 * The guest's first process: boots the machine, then runs commands for the host.
 *
 * As /init of the initramfs it says when it was entered, loads the modules, mounts the image's
 * file system and moves into it, opens the virtio port named PORT_NAME, and serves frames until
 * the host hangs up. It stays PID 1, so it reaps everything; nothing else runs unless asked for.
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
 *   guest to host    HELLO  u32 version; u64 CLOCK_BOOTTIME ns
 *                    STARTED execve succeeded     FAILED u32 errno, then the call that failed
 *                    STDOUT, STDERR bytes         CREDIT u32 bytes of STDIN that were passed on
 *                    EXITED u32 status, 128+n for signal n; no frame of this id follows
 *                    ERROR  text; the guest powers off
 *
 * The host may have STDIN_WINDOW bytes of a command's STDIN on their way; CREDIT returns them.
 * A command's output ends with its own process: what its orphans write later is dropped.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/random.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define PORT_NAME "isoscope.0"
#define VERSION 1
#define MAGIC 0x314f5349u
#define MAX_FRAME (4u << 20)
#define MAX_COMMANDS 64
#define STDIN_WINDOW (256u << 10)
#define OUTPUT_HIGH_WATER (256u << 10)
#define LAST_READS 64     /* 2 MiB: more than a pipe holds; an orphan may write for ever */
#define DEVICE_LIMIT_MS 10000
#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

enum type {
    RUN = 1, STDIN, KILL, SEED,
    HELLO = 16, STARTED, FAILED, STDOUT, STDERR, CREDIT, EXITED, ERROR,
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

struct request {
    uint32_t uid, gid, ngroups, argc, envc;
    gid_t *groups;
    char *cwd, **argv, **env;
};

static int port = -1;
static struct buffer outgoing;
static struct command commands[MAX_COMMANDS];

/* -- the end, and time ------------------------------------------------------------------- */

static _Noreturn void power_off(void)
{
    reboot(RB_AUTOBOOT);    /* reboot=t on the command line and -no-reboot: the VMM exits */
    for (;;)
        pause();
}

static _Noreturn void fatal(const char *format, ...)
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

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec now;

    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* -- boot -------------------------------------------------------------------------------- */

static int is_module(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

/* Loads /modules in the order of their names, and frees the memory they take in the initramfs. */
static void load_modules(void)
{
    struct dirent **found;
    int count = scandir("/modules", &found, is_module, alphasort);

    for (int i = 0; i < count; i++) {
        char path[300];
        snprintf(path, sizeof path, "/modules/%s", found[i]->d_name);
        int file = open(path, O_RDONLY | O_CLOEXEC);
        if (file < 0 || (syscall(SYS_finit_module, file, "", 0) != 0 && errno != EEXIST))
            fatal("module %s", path);
        close(file);
        unlink(path);
    }
}

/* Waits for what a driver brings up on its own time: look() until it gives a descriptor. */
static int await_device(int (*look)(void), const char *what)
{
    int found = look();

    for (int waited_ms = 0; found < 0 && waited_ms < DEVICE_LIMIT_MS; waited_ms++) {
        poll(NULL, 0, 1);
        found = look();
    }
    if (found < 0)
        fatal("no %s after %d ms", what, DEVICE_LIMIT_MS);
    return found;
}

static int look_for_disk(void)
{
    return access("/dev/vda", F_OK);
}

/* Ports are numbered by PCI order, so the name decides (Documentation/ABI/.../virtio-ports). */
static int look_for_port(void)
{
    DIR *ports = opendir("/sys/class/virtio-ports");
    int found = -1;

    for (struct dirent *entry; ports && found < 0 && (entry = readdir(ports));) {
        char path[300], name[sizeof PORT_NAME] = "";
        snprintf(path, sizeof path, "/sys/class/virtio-ports/%s/name", entry->d_name);
        int file = open(path, O_RDONLY | O_CLOEXEC);
        if (file < 0)
            continue;
        if (read(file, name, sizeof name - 1) > 0 && strcmp(name, PORT_NAME) == 0) {
            snprintf(path, sizeof path, "/dev/%s", entry->d_name);
            found = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
        }
        close(file);
    }
    if (ports)
        closedir(ports);
    return found;
}

static void mount_on(const char *kind, const char *target, unsigned long flags, const char *data)
{
    mkdir(target, 0755);
    if (mount(kind, target, kind, flags, data) != 0)
        fatal("mount %s on %s", kind, target);
}

/* The file systems a container gets too; /run and /tmp are the image's own, as there. */
static void mount_kernel_file_systems(void)
{
    const unsigned long safe = MS_NOSUID | MS_NOEXEC | MS_NODEV;

    mount_on("proc", "/root/proc", safe, NULL);
    mount_on("sysfs", "/root/sys", safe, NULL);
    mount_on("cgroup2", "/root/sys/fs/cgroup", safe, NULL);
    mkdir("/root/dev", 0755);
    if (mount("/dev", "/root/dev", NULL, MS_MOVE, NULL) != 0)
        fatal("move /dev");
    mount_on("devpts", "/root/dev/pts", MS_NOSUID | MS_NOEXEC, "mode=620,ptmxmode=666,gid=5");
    mount_on("tmpfs", "/root/dev/shm", safe, "mode=1777,size=64m");
    mount_on("mqueue", "/root/dev/mqueue", safe, NULL);
    if (symlink("/proc/self/fd", "/root/dev/fd") || symlink("fd/0", "/root/dev/stdin") ||
        symlink("fd/1", "/root/dev/stdout") || symlink("fd/2", "/root/dev/stderr"))
        fatal("links in /dev");
}

static void enter_image(void)
{
    mkdir("/root", 0755);
    await_device(look_for_disk, "disk");
    if (mount("/dev/vda", "/root", "ext4", 0, NULL) != 0)
        fatal("mount /dev/vda");
    mount_kernel_file_systems();
    unlink("/init");    /* the running file keeps its pages; its name must not be found again */
    if (chdir("/root") || mount(".", "/", NULL, MS_MOVE, NULL) || chroot(".") || chdir("/"))
        fatal("switch root");
}

/* What a booted machine has whatever it runs: a name, a loopback, the usual limit of files. */
static void settle(void)
{
    struct ifreq loopback = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
    struct rlimit files = {.rlim_cur = 1024, .rlim_max = 524288};   /* as systemd(1) sets */
    int control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    if (sethostname("isoscope", 8) || setrlimit(RLIMIT_NOFILE, &files) || control < 0 ||
        ioctl(control, SIOCSIFFLAGS, &loopback))
        fatal("settle");
    close(control);
    umask(022);
}

/* -- frames out -------------------------------------------------------------------------- */

static void append(struct buffer *buffer, const void *bytes, size_t count)
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

static void consume(struct buffer *buffer, size_t count)
{
    buffer->used -= count;
    memmove(buffer->bytes, buffer->bytes + count, buffer->used);
}

/* Passes on what the descriptor takes now. False: its other end is gone. */
static bool flush(int to, struct buffer *buffer)
{
    ssize_t written = buffer->used ? write(to, buffer->bytes, buffer->used) : 0;

    if (written > 0)
        consume(buffer, (size_t)written);
    return written >= 0 || errno == EAGAIN || errno == EINTR;
}

static void send_frame(enum type type, uint32_t id, const void *payload, uint32_t length)
{
    struct header header = {MAGIC, type, id, length, clock_ns(CLOCK_MONOTONIC)};

    append(&outgoing, &header, sizeof header);
    append(&outgoing, payload, length);
    if (!flush(port, &outgoing))
        power_off();
}

static _Noreturn void refuse(const char *why)
{
    send_frame(ERROR, 0, why, (uint32_t)strlen(why));
    for (int tries = 0; outgoing.used && tries < 1000; tries++) {
        poll(NULL, 0, 1);
        flush(port, &outgoing);
    }
    power_off();
}

/* -- commands ---------------------------------------------------------------------------- */

static struct command *find(uint32_t id)
{
    for (int i = 0; i < MAX_COMMANDS; i++)
        if (commands[i].pid && commands[i].id == id)
            return &commands[i];
    return NULL;
}

static struct command *free_slot(void)
{
    for (int i = 0; i < MAX_COMMANDS; i++)
        if (!commands[i].pid)
            return &commands[i];
    refuse("more commands at once than there are slots");
}

/* Docker makes a working directory that is not there, parents included. */
static int enter_directory(char *path)
{
    for (char *slash = path + 1; (slash = strchr(slash, '/')); slash++) {
        *slash = '\0';
        mkdir(path, 0755);
        *slash = '/';
    }
    mkdir(path, 0755);
    return chdir(path);     /* tells whatever mkdir could not do */
}

static const char *search_path(char **env)
{
    for (; *env; env++)
        if (strncmp(*env, "PATH=", 5) == 0)
            return *env + 5;
    return DEFAULT_PATH;    /* searched, as a shell would; not given to the command */
}

/* As execvpe(3), but with the PATH of the command's own environment and without its shell. */
static void execute(struct request *request)
{
    const char *name = request->argv[0];
    int error = ENOENT;

    if (strchr(name, '/')) {
        execve(name, request->argv, request->env);
        return;
    }
    for (const char *entry = search_path(request->env); *entry && *name;) {
        char path[4096];
        size_t length = strcspn(entry, ":");
        snprintf(path, sizeof path, "%.*s/%s", (int)length, length ? entry : ".", name);
        execve(path, request->argv, request->env);
        if (errno != ENOENT && errno != ENOTDIR)
            error = errno;
        entry += length + (entry[length] == ':');
    }
    errno = error;
}

/*
 * The child of a vfork: shares our memory until it execs, so it only makes calls. Returns the
 * call that failed.
 */
static const char *become(struct request *request, const int ends[3])
{
    sigset_t none;

    sigemptyset(&none);
    signal(SIGPIPE, SIG_DFL);
    sigprocmask(SIG_SETMASK, &none, NULL);
    setsid();
    for (int target = 0; target < 3; target++)
        if (dup2(ends[target], target) < 0)
            return "dup2";
    if (enter_directory(request->cwd))
        return "chdir";
    if (setgroups(request->ngroups, request->groups) || setgid(request->gid) ||
        setuid(request->uid))
        return "setuid";
    execute(request);
    return "execve";
}

static void send_failure(uint32_t id, uint32_t error, const char *call)
{
    char payload[64];

    memcpy(payload, &error, sizeof error);
    snprintf(payload + sizeof error, sizeof payload - sizeof error, "%s", call);
    send_frame(FAILED, id, payload, (uint32_t)(sizeof error + strlen(call)));
}

static void close_end(int *end)
{
    if (*end >= 0)
        close(*end);
    *end = -1;
}

static void release(struct command *command)
{
    close_end(&command->in);
    close_end(&command->out);
    close_end(&command->err);
    free(command->pending.bytes);
    *command = (struct command){.in = -1, .out = -1, .err = -1};
}

/* vfork: it returns when execve has succeeded or failed, which is the mark the host wants. */
static void start(uint32_t id, struct request *request)
{
    struct command *command = free_slot();
    int in[2], out[2], err[2];
    const char *volatile failed = NULL;
    volatile int error = 0;

    if (pipe2(in, O_CLOEXEC) || pipe2(out, O_CLOEXEC) || pipe2(err, O_CLOEXEC))
        fatal("pipes");
    pid_t child = vfork();
    if (child == 0) {
        failed = become(request, (int[]){in[0], out[1], err[1]});
        error = errno;
        _exit(127);
    }
    if (child < 0) {
        failed = "vfork";
        error = errno;
    }
    close(in[0]);
    close(out[1]);
    close(err[1]);
    *command = (struct command){id, child, in[1], out[0], err[0], false, {NULL, 0, 0}};
    if (failed) {
        send_failure(id, (uint32_t)error, failed);
        release(command);   /* the dead child is reaped as an orphan */
        return;
    }
    for (int i = 0; i < 3; i++)
        fcntl((int[]){in[1], out[0], err[0]}[i], F_SETFL, O_NONBLOCK);
    send_frame(STARTED, id, NULL, 0);
}

static void feed(struct command *command)
{
    size_t before = command->pending.used;

    if (!flush(command->in, &command->pending)) {
        command->pending.used = 0;      /* it closed its standard input: the rest goes nowhere */
        close_end(&command->in);
    }
    uint32_t passed = (uint32_t)(before - command->pending.used);
    if (passed)
        send_frame(CREDIT, command->id, &passed, sizeof passed);
    if (command->in_ended && !command->pending.used)
        close_end(&command->in);
}

/* Forwards one read of a pipe. False: nothing was there. */
static bool drain(struct command *command, int *end, enum type type)
{
    static char bytes[32768];
    ssize_t count = *end < 0 ? 0 : read(*end, bytes, sizeof bytes);

    if (count > 0)
        send_frame(type, command->id, bytes, (uint32_t)count);
    else if (count == 0)
        close_end(end);
    return count > 0;
}

static void reap(int signals)
{
    struct signalfd_siginfo info;
    int status;

    while (read(signals, &info, sizeof info) > 0)
        ;
    for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
        for (int i = 0; i < MAX_COMMANDS; i++) {
            struct command *command = &commands[i];
            uint32_t code = (uint32_t)(WIFSIGNALED(status) ? 128 + WTERMSIG(status)
                                                           : WEXITSTATUS(status));
            if (command->pid != pid)
                continue;
            for (int reads = 0; reads < LAST_READS && drain(command, &command->out, STDOUT); reads++)
                ;
            for (int reads = 0; reads < LAST_READS && drain(command, &command->err, STDERR); reads++)
                ;
            send_frame(EXITED, command->id, &code, sizeof code);
            release(command);
        }
    }
}

/* -- frames in --------------------------------------------------------------------------- */

/* Cuts the next string off; what does not end in NUL is refused before this is called. */
static char *next_string(char **rest, const char *end)
{
    char *string = *rest;

    if (string >= end)
        refuse("a request to run holds fewer strings than it says");
    *rest += strlen(string) + 1;
    return string;
}

static char **next_strings(char **rest, const char *end, uint32_t count)
{
    char **list = calloc((size_t)count + 1, sizeof *list);

    if (!list)
        fatal("memory for %u strings", count);
    for (uint32_t i = 0; i < count; i++)
        list[i] = next_string(rest, end);
    return list;
}

static void run(uint32_t id, char *payload, uint32_t length)
{
    struct request request = {0};
    const size_t numbers = 5 * sizeof(uint32_t);
    char *end = payload + length, *rest = payload + numbers;

    if (length < numbers || end[-1] != '\0' || find(id))
        refuse("a request to run is malformed");
    memcpy(&request, payload, numbers);
    if (request.ngroups > 65536 || request.argc < 1 || request.argc > MAX_FRAME ||
        request.envc > MAX_FRAME || (size_t)(end - rest) < request.ngroups * sizeof(gid_t))
        refuse("a request to run has impossible counts");
    request.groups = (gid_t *)(void *)rest;
    rest += request.ngroups * sizeof(gid_t);
    request.cwd = next_string(&rest, end);
    request.argv = next_strings(&rest, end, request.argc);
    request.env = next_strings(&rest, end, request.envc);
    start(id, &request);
    free(request.argv);
    free(request.env);
}

static void take_stdin(struct command *command, const char *bytes, uint32_t length)
{
    if (command->pending.used + length > STDIN_WINDOW)
        refuse("more standard input than the window allows");
    command->in_ended = command->in_ended || length == 0;
    append(&command->pending, bytes, length);
    feed(command);
}

/* Without it a guest that has no random source of its own makes its first readers wait. */
static void seed(const char *bytes, uint32_t length)
{
    struct { struct rand_pool_info info; char bytes[256]; } pool = {
        .info = {.entropy_count = (int)length * 8, .buf_size = (int)length},
    };
    int random = open("/dev/urandom", O_WRONLY | O_CLOEXEC);

    if (length > sizeof pool.bytes)
        refuse("a seed is too long");
    memcpy(pool.bytes, bytes, length);
    if (random < 0 || ioctl(random, RNDADDENTROPY, &pool) != 0)
        fatal("seed");
    close(random);
}

static void handle(const struct header *header, char *payload)
{
    struct command *command = find(header->id);
    uint32_t number = 0;

    if (header->type == RUN)
        run(header->id, payload, header->length);
    else if (header->type == SEED)
        seed(payload, header->length);
    else if (header->type == STDIN && command)
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

/* -- the loop ---------------------------------------------------------------------------- */

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

int main(void)
{
    dprintf(STDOUT_FILENO, "isoscope: init %llu\n", (unsigned long long)clock_ns(CLOCK_BOOTTIME));
    for (int i = 0; i < MAX_COMMANDS; i++)
        commands[i] = (struct command){.in = -1, .out = -1, .err = -1};
    mount_on("devtmpfs", "/dev", MS_NOSUID, "mode=755");
    mount_on("sysfs", "/sys", 0, NULL);
    load_modules();
    port = await_device(look_for_port, "virtio port " PORT_NAME);
    enter_image();
    settle();
    struct { uint32_t version; uint64_t boottime_ns; } __attribute__((packed)) hello = {
        VERSION, clock_ns(CLOCK_BOOTTIME),
    };
    int signals = take_signals();
    send_frame(HELLO, 0, &hello, sizeof hello);
    serve(signals);
}
