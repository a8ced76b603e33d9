/* Who disturbs, who is disturbed, and who only holds memory. All but ticks go on until killed. */
#include "gauge.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { HELD = 16 << 20, WRITTEN = 1 << 20, FILE_BYTES = 16 << 20, PAGE = 4096, BUFFER = 64 << 10 };

static void *mapped(uint64_t bytes)
{
    void *made = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (made == MAP_FAILED)
        fail("mmap");
    return made;
}

static noreturn void burn_cpu(void)
{
    for (uint64_t volatile state = 1;;)
        state = mixed(state);
}

static noreturn void burn_memory(void)
{
    char *held = mapped(HELD);
    for (int byte = 1;; byte++) {
        memset(held, byte, HELD);
        __asm__ volatile("" : : "r"(held) : "memory");
    }
}

static noreturn void burn_disk(void)
{
    char *bytes = mapped(WRITTEN);
    int end = open("/tmp", O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600);
    if (end < 0)
        fail("/tmp");
    for (off_t at = 0;; at = (at + WRITTEN) % FILE_BYTES)
        if (pwrite(end, bytes, WRITTEN, at) != WRITTEN || fdatasync(end) != 0)
            fail("write");
}

/* One child at a time: it keeps the kernel busy and fills no process table. */
static noreturn void burn_fork(void)
{
    for (;;) {
        pid_t child = fork();
        if (child == 0)
            _exit(0);
        if (child < 0 || waitpid(child, NULL, 0) != child)
            fail("fork");
    }
}

/* Two of them for each processor, so that nobody finds one idle; all end with the first. */
void burn_main(const char *what)
{
    pid_t first = getpid();
    say("burning");
    for (long more = 2 * sysconf(_SC_NPROCESSORS_ONLN) - 1; more > 0; more--) {
        pid_t child = fork();
        if (child < 0)
            fail("fork");
        if (child == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            if (getppid() != first)
                _exit(1);
            break;
        }
    }
    if (strcmp(what, "cpu") == 0)
        burn_cpu();
    if (strcmp(what, "memory") == 0)
        burn_memory();
    if (strcmp(what, "disk") == 0)
        burn_disk();
    if (strcmp(what, "fork") == 0)
        burn_fork();
    errno = EINVAL;
    fail(what);
}

/* A small piece of work is due every period; a latency counts from when it was due, so what comes
 * late delays what is due meanwhile (no coordinated omission). */
void ticks_main(uint64_t period_us, uint64_t count)
{
    uint64_t *latencies = calloc(count, sizeof *latencies), state = 1;
    uint64_t *buffer = mapped(BUFFER);
    if (latencies == NULL)
        fail("calloc");
    uint64_t start = now_ns() + period_us * 1000;
    for (uint64_t i = 0; i < count; i++) {
        uint64_t due = start + i * period_us * 1000;
        sleep_until(due);
        for (uint64_t at = 0; at < BUFFER / sizeof *buffer; at++)
            buffer[at] += state = mixed(state);
        __asm__ volatile("" : : "r"(buffer) : "memory");
        latencies[i] = now_ns() - due;
    }
    quantiles(latencies, count);
}

void touch_main(uint64_t mib)
{
    char *held = mapped(mib << 20);
    for (uint64_t at = 0; at < mib << 20; at += PAGE)
        held[at] = 1;
    say("touched");
    for (;;)
        pause();
}

void map_main(const char *path)
{
    struct stat status;
    char volatile byte = 0;
    int end = open(path, O_RDONLY | O_CLOEXEC);
    if (end < 0 || fstat(end, &status) != 0)
        fail(path);
    char *held = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_SHARED, end, 0);
    if (held == MAP_FAILED)
        fail("mmap");
    for (off_t at = 0; at < status.st_size; at += PAGE)
        byte = held[at];
    (void)byte;
    say("mapped");
    for (;;)
        pause();
}
