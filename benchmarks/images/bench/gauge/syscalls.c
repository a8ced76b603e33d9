/* One system call after another: what crossing into a kernel costs, and what some crossings do.
 *
 * getpid is asked of the kernel each time (libc might remember it). The round trip of a byte
 * between two processes by two pipes is at least two switches of context.
 */
#include "gauge.h"
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static int zero_fd, to_child[2], from_child[2];
static const char *self_path;

static void getpids(uint64_t units)
{
    while (units-- > 0)
        syscall(SYS_getpid);
}

static void reads(uint64_t units)
{
    char byte;
    while (units-- > 0)
        if (read(zero_fd, &byte, 1) != 1)
            fail("read");
}

static void opens(uint64_t units)
{
    while (units-- > 0) {
        int end = open("/etc/passwd", O_RDONLY | O_CLOEXEC);
        if (end < 0)
            fail("open");
        close(end);
    }
}

static void maps(uint64_t units)
{
    while (units-- > 0) {
        char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (page == MAP_FAILED)
            fail("mmap");
        *(volatile char *)page = 1;
        munmap(page, 4096);
    }
}

static void forks(uint64_t units)
{
    while (units-- > 0) {
        int status;
        pid_t child = fork();
        if (child == 0) {
            execl(self_path, "gauge", "true", (char *)NULL);
            _exit(127);
        }
        if (child < 0 || waitpid(child, &status, 0) != child || status != 0)
            fail("fork and exec");
    }
}

static void switches(uint64_t units)
{
    char byte = 0;
    while (units-- > 0)
        if (write(to_child[1], &byte, 1) != 1 || read(from_child[0], &byte, 1) != 1)
            fail("pipe");
}

void syscalls_main(const char *self)
{
    self_path = self;
    zero_fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);
    if (zero_fd < 0 || pipe2(to_child, O_CLOEXEC) != 0 || pipe2(from_child, O_CLOEXEC) != 0)
        fail("/dev/zero or pipe");
    climb("getpid", 1, getpids);
    climb("read", 1, reads);
    climb("open", 1, opens);
    climb("mmap", 1, maps);
    climb("fork", 1, forks);
    pid_t child = fork();
    if (child < 0)
        fail("fork");
    if (child == 0) {
        char byte;
        close(to_child[1]);
        while (read(to_child[0], &byte, 1) == 1 && write(from_child[1], &byte, 1) == 1)
            continue;
        _exit(0);
    }
    climb("pipe", 1, switches);
    close(to_child[1]);
    waitpid(child, NULL, 0);
}
