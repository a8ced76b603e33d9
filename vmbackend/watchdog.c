/*
 * watchdog OWNER DIRECTORY...: outlives its owner by a moment to remove what that left behind.
 *
 * libvirt's embedded driver cannot destroy a machine when the process that started it dies, and
 * a QEMU without its owner runs on until its guest notices. So each process that starts machines
 * starts one of these, in a session of its own. When the process OWNER (our parent) ends, every
 * QEMU whose command line names the first DIRECTORY, which is private to the owner, is killed
 * through a pidfd, and every DIRECTORY is removed. An owner that closes in order kills it instead.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define QUIET_SCANS 5       /* a child that was forked but had not yet exec'ed shows up later */
#define SCAN_INTERVAL_MS 25

static int open_process(pid_t pid)
{
    return (int)syscall(SYS_pidfd_open, pid, 0);
}

/* Whether /proc/PID/cmdline holds the bytes of *needle*: of ours, only QEMU is given that path. */
static bool command_line_names(int process_directory, const char *needle)
{
    static char line[131072];   /* libvirt's command lines are a few kilobytes */
    int file = openat(process_directory, "cmdline", O_RDONLY | O_CLOEXEC);
    ssize_t length = file < 0 ? -1 : read(file, line, sizeof line - 1);

    if (file >= 0)
        close(file);
    line[length > 0 ? length : 0] = '\0';
    return length > 0 && strstr(line, "qemu-system") &&
           memmem(line, (size_t)length, needle, strlen(needle));
}

/* The pidfd is opened before the look, so the process that is looked at is the one killed. */
static bool kill_if_named(int proc, const char *pid, const char *needle)
{
    int process = open_process(atoi(pid));
    int directory = openat(proc, pid, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool named = process >= 0 && directory >= 0 && command_line_names(directory, needle);

    if (named)
        syscall(SYS_pidfd_send_signal, process, SIGKILL, NULL, 0);
    if (process >= 0)
        close(process);
    if (directory >= 0)
        close(directory);
    return named;
}

static int kill_all_named(const char *needle)
{
    DIR *proc = opendir("/proc");
    int killed = 0;

    for (struct dirent *entry; proc && (entry = readdir(proc));)
        if (entry->d_name[0] >= '1' && entry->d_name[0] <= '9')
            killed += kill_if_named(dirfd(proc), entry->d_name, needle);
    if (proc)
        closedir(proc);
    return killed;
}

static int remove_entry(const char *path, const struct stat *status, int flag, struct FTW *position)
{
    (void)status, (void)flag, (void)position;
    remove(path);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc < 3)
        return 2;
    setsid();
    struct pollfd owner = {.fd = open_process(atoi(argv[1])), .events = POLLIN};
    if (getppid() == atoi(argv[1]) && owner.fd >= 0)
        while (poll(&owner, 1, -1) < 0)     /* readable when its process has ended: pidfd_open(2) */
            ;
    for (int quiet = 0; quiet < QUIET_SCANS; quiet++) {
        if (kill_all_named(argv[2]))
            quiet = 0;
        for (int i = 2; i < argc; i++)
            nftw(argv[i], remove_entry, 16, FTW_DEPTH | FTW_PHYS);
        poll(NULL, 0, SCAN_INTERVAL_MS);
    }
    return 0;
}
