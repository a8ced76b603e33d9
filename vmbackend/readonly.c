/*
 * readonly OPTION...: virtiofsd with the same options, in a mount namespace of its own where the
 * directory that it is to serve (-o source=DIRECTORY) is read-only.
 *
 * virtiofsd of QEMU 7.2 cannot serve read-only, and libvirt refuses to ask it. The guest's own
 * mount flags are no bound: its root may mount again. A read-only bind mount is one, if what is
mounted below it is read-only too (mount_setattr(2)).
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/mount.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

static const char *const servers[] = {"/usr/lib/qemu/virtiofsd", "/usr/libexec/virtiofsd"};

static const char *source_of(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (strncmp(argv[i], "source=", 7) == 0)
            return argv[i] + 7;
    return NULL;
}

static long close_for_writing(const char *source)
{
    struct mount_attr attributes = {.attr_set = MOUNT_ATTR_RDONLY};

    return syscall(SYS_mount_setattr, AT_FDCWD, source, AT_RECURSIVE, &attributes,
                   sizeof attributes);
}

int main(int argc, char **argv)
{
    static char source[4096];
    const char *given = source_of(argc, argv);

    if (!given || strlen(given) >= sizeof source)
        return 2;
    strcpy(source, given);
    source[strcspn(source, ",")] = '\0';     /* further options may follow it */
    if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
        mount(source, source, NULL, MS_BIND | MS_REC, NULL) || close_for_writing(source)) {
        perror("readonly");
        return 1;
    }
    for (size_t i = 0; i < sizeof servers / sizeof *servers; i++)
        execv(servers[i], argv);
    perror("readonly");
    return 127;
}
