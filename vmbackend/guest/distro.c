/*
 * The profile in which the image's own init is the machine's first process.
 *
 * Nothing of the image is changed: this program goes into a file system in memory on /run, which
 * an init finds mounted and keeps, with a unit that starts it again when the system is up. There
 * it serves the host as it would as first process. Source: systemd.unit(5), file-hierarchy(7).
 */
#define _GNU_SOURCE
#include "agent.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#define PLACE "/run/isoscope"
#define UNITS "/run/systemd/system"
#define WANTS UNITS "/multi-user.target.wants"

/* It comes after the target that wants it: without its default dependencies that is no circle. */
static const char unit[] =
    "[Unit]\n"
    "Description=Commands of the host\n"
    "DefaultDependencies=no\n"
    "After=multi-user.target\n"
    "[Service]\n"
    "ExecStart=" PLACE "/agent " SERVE_WORD "\n"
    "StandardOutput=tty\n"
    "TTYPath=/dev/console\n";

static void write_file(const char *path, const void *bytes, size_t count)
{
    int file = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);

    if (file < 0 || write(file, bytes, count) != (ssize_t)count)
        fatal("write %s", path);
    close(file);
}

static void copy_self(int self, const char *path)
{
    int file = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0755);
    struct stat status;

    if (self < 0 || file < 0 || fstat(self, &status))
        fatal("copy to %s", path);
    while (status.st_size > 0) {
        ssize_t count = sendfile(file, self, NULL, (size_t)status.st_size);
        if (count <= 0)
            fatal("copy to %s", path);
        status.st_size -= count;
    }
    close(file);
}

void become_init(const char *path, int self)
{
    char wants[] = WANTS;

    mkdir("/run", 0755);
    if (mount("tmpfs", "/run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755,size=20%"))
        fatal("mount /run");
    make_directories(wants);
    if (mkdir(PLACE, 0700))
        fatal("make " PLACE);
    copy_self(self, PLACE "/agent");
    write_file(UNITS "/isoscope.service", unit, strlen(unit));
    if (symlink("../isoscope.service", WANTS "/isoscope.service"))
        fatal("link the unit");
    close(self);
    execve(path, (char *[]){(char *)path, NULL}, (char *[]){"TERM=linux", NULL});
    fatal("the image's init %s", path);
}
